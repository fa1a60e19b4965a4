"""MLflow: one run a training, with its parameters, curves and model. The only module that knows MLflow."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.models.checkpoints import Checkpoint

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")


LOCAL_SERVER = "http://127.0.0.1:5000"
"""Where `mlflow ui` serves a local tracking database."""


def tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` where it is set, else a SQLite file below the study's home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _local_uri(home)


def _local_uri(home: Path) -> str:
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class MlflowRun:
    """A training's view of its MLflow run; a `training.tracker.Tracker`."""

    run_id: str
    experiment_id: str
    server: str

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters, nested ones by their dotted names."""
        import mlflow

        mlflow.log_params(_flat(values))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log one point of each curve."""
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)

    @property
    def page(self) -> str:
        """Address of the run in the MLflow UI."""
        return f"{self.server}/#/experiments/{self.experiment_id}/runs/{self.run_id}"


@contextmanager
def training_run(home: Path, experiment: str, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
    """One MLflow run around a training; a failure inside marks it failed and goes on upwards.

    The run records system metrics. Artifacts stand below the home unless a tracking server decides otherwise.
    """
    import mlflow

    (home / "mlflow").mkdir(parents=True, exist_ok=True)
    uri = tracking_uri(home)
    server = uri.rstrip("/") if uri.startswith("http") else LOCAL_SERVER
    mlflow.set_tracking_uri(uri)
    mlflow.set_system_metrics_sampling_interval(2)
    found = mlflow.get_experiment_by_name(experiment)
    if found is None:
        # A tracking server decides for itself where artifacts go.
        local = (home / "mlflow" / "artifacts").as_uri() if uri == _local_uri(home) else None
        experiment_id = mlflow.create_experiment(experiment, artifact_location=local)
    else:
        experiment_id = found.experiment_id
    name = "/".join(filter(None, (tags["asset"], tags["partition"])))
    with mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags), log_system_metrics=True) as run:
        yield MlflowRun(run.info.run_id, experiment_id, server)


def log_classifier(name: str, checkpoint: Checkpoint, example: NDArray[np.uint8]) -> str:
    """Log a fine-tuned model to the active run as a pyfunc that takes sheets (B, H, W) uint8 and gives scores (B,).

    No pickle is involved: the artifact is the checkpoint's safetensors, and `_load_pyfunc` below reads it.
    Returns the MLflow model id.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    sheets = TensorSpec(np.dtype(np.uint8), (-1, *example.shape[1:]), "sheets")
    scores = TensorSpec(np.dtype(np.float32), (-1,), "probability")
    logged = mlflow.pyfunc.log_model(
        name=name,
        loader_module=__name__,
        data_path=str(checkpoint.folder),
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
