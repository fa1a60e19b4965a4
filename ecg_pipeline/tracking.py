"""MLflow: one run a training, with its parameters, curves and model. The only module that knows MLflow."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.images.example import example_sheets
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.links import mlflow_run
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.storage.files import locked

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

SERVED = ("weights.safetensors", "config.json")
"""Files of a checkpoint that serving needs. Beside them stand tables of patients, which MLflow never sees."""


def tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else a SQLite file below the study's home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _local_uri(home)


def has_server(home: Path) -> bool:
    """Whether a tracking server of the user's own is there, so that none is started for this study."""
    return tracking_uri(home).startswith("http")


def artifacts(home: Path) -> Path:
    """Where artifacts stand unless a tracking server decides for itself."""
    return home / "mlflow" / "artifacts"


def prepare_store(home: Path, experiment: str) -> str:
    """Make what a study's first run needs: the database and the experiment, whose id is returned.

    One process at a time, because MLflow's tables are made by whoever comes first, and two who come first break them.
    """
    import mlflow

    mlflow.set_tracking_uri(tracking_uri(home))
    with locked(home / "mlflow" / ".lock"):
        found = mlflow.get_experiment_by_name(experiment)
        if found is not None:
            return found.experiment_id
        local = artifacts(home).as_uri() if tracking_uri(home) == _local_uri(home) else None
        return mlflow.create_experiment(experiment, artifact_location=local)


def _local_uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class MlflowRun:
    """A training's view of its MLflow run; a `training.tracker.Tracker`."""

    run_id: str
    page: str
    """Address of the run in the MLflow UI."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters, nested ones by their dotted names."""
        import mlflow

        mlflow.log_params(_flat(values))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log one point of each curve."""
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)


@contextmanager
def training_run(home: Path, experiment: str, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
    """One MLflow run around a training; a failure inside marks it failed and goes on upwards.

    The run records system metrics. Artifacts stand below the home unless a tracking server decides otherwise.
    """
    import mlflow

    experiment_id = prepare_store(home, experiment)
    mlflow.set_system_metrics_sampling_interval(10)
    name = "/".join(filter(None, (tags["asset"], tags["partition"])))
    with mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags), log_system_metrics=True) as run:
        run_id = run.info.run_id
        server = tracking_uri(home).rstrip("/")
        own = f"{server}/#/experiments/{experiment_id}/runs/{run_id}"
        yield MlflowRun(run_id, own if has_server(home) else mlflow_run(home, run_id))


def log_classifier(name: str, checkpoint: Checkpoint, sheet: SheetRecipe, filters: FilterRecipe) -> str:
    """Log a fine-tuned model to the active run as a pyfunc that takes sheets (B, H, W) uint8 and gives scores (B,).

    No pickle is involved: the artifact is the checkpoint's safetensors, and `_load_pyfunc` below reads it. No patient
    is either: the example is an invented heart's sheet, and of the checkpoint's folder weights and config alone are
    logged. Returns the MLflow model id.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    example = example_sheets(sheet, filters)
    sheets = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]), "sheets")
    scores = TensorSpec(np.dtype(np.float32), (-1,), "probability")
    with tempfile.TemporaryDirectory() as folder:
        served = Path(folder) / "checkpoint"
        served.mkdir()
        for file in SERVED:
            shutil.copy(checkpoint.folder / file, served)
        logged = mlflow.pyfunc.log_model(
            name=name,
            loader_module=__name__,
            data_path=str(served),
            signature=ModelSignature(inputs=Schema([sheets]), outputs=Schema([scores])),
            input_example={"sheets": example},
            pip_requirements=["ecg-pipeline"],
        )
    return logged.model_id


class _ServedClassifier:
    """What MLflow serves: preprocessing and model in one, as trained."""

    def __init__(self, checkpoint: Checkpoint):
        from ecg_pipeline.models.family import load_classifier

        self.module = load_classifier(checkpoint).eval()

    def predict(self, sheets: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float32]:
        """Probability of the positive class for each sheet."""
        import torch

        array = np.asarray(sheets["sheets"] if isinstance(sheets, Mapping) else sheets)
        with torch.inference_mode():
            return self.module(torch.as_tensor(array)).softmax(dim=1)[:, 1].float().numpy()


def _load_pyfunc(path: str) -> _ServedClassifier:
    """MLflow's entry point for loading the model that `log_classifier` logged."""
    return _ServedClassifier(Checkpoint(Path(path)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
