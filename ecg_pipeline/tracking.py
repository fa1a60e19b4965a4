"""MLflow: one run a training, with its parameters, curves and model. The only module that imports MLflow."""

import contextlib
import io
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.links import mlflow_run
from ecg_pipeline.storage.files import locked
from ecg_pipeline.training.checkpoints import Checkpoint

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")

SERVED = ("weights.safetensors", "config.json")
"""Files of a checkpoint that are logged to MLflow. Tables of patients beside them are not."""

INPUT = "examples"
"""Name of a served model's input."""


def tracking_uri(home: Path) -> str:
    """`MLFLOW_TRACKING_URI` if it is set, else a SQLite file in the study's home."""
    return os.environ.get("MLFLOW_TRACKING_URI") or _local_uri(home)


def has_server(home: Path) -> bool:
    """Whether the tracking URI is a server; then `ecg-pipeline ui` starts none."""
    return tracking_uri(home).startswith("http")


def artifacts(home: Path) -> Path:
    """Folder of the artifacts, if no tracking server stores them."""
    return home / "mlflow" / "artifacts"


def prepare_store(home: Path, experiment: str) -> str:
    """Create the MLflow database and the experiment if they do not exist; return the experiment's id.

    Under a lock, because MLflow's database is corrupted if two processes create its tables at the same time.
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
    """An MLflow run as a `training.tracker.Tracker`."""

    run_id: str
    page: str
    """Address of the run in the MLflow UI."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log parameters; nested ones under dotted names."""
        import mlflow

        mlflow.log_params(_flat(values))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log one point of each curve."""
        import mlflow

        mlflow.log_metrics({name: float(value) for name, value in values.items()}, step=step)


@contextmanager
def training_run(home: Path, experiment: str, tags: Mapping[str, str]) -> Iterator[MlflowRun]:
    """Start the MLflow run of a training, with system metrics. An exception in the block marks the run as failed."""
    import mlflow

    experiment_id = prepare_store(home, experiment)
    mlflow.set_system_metrics_sampling_interval(10)
    name = "/".join(filter(None, (tags["asset"], tags["partition"])))
    with mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags), log_system_metrics=True) as run:
        run_id = run.info.run_id
        server = tracking_uri(home).rstrip("/")
        own = f"{server}/#/experiments/{experiment_id}/runs/{run_id}"
        yield MlflowRun(run_id, own if has_server(home) else mlflow_run(home, run_id))


def log_classifier(name: str, checkpoint: Checkpoint, example: NDArray) -> str:
    """Log a fine-tuned model to the active run as a pyfunc, examples (B, ...) -> scores (B,); return its model id.

    example: (1, ...), as the model's view stores it, but not of a patient, because it is logged, too. No pickle: the
    artifact is the checkpoint's safetensors, which `_load_pyfunc` reads; only its weights and config are logged.
    """
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    examples = TensorSpec(example.dtype, (-1, *example.shape[1:]), INPUT)
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
            signature=ModelSignature(inputs=Schema([examples]), outputs=Schema([scores])),
            input_example={INPUT: example},
            pip_requirements=["ecg-pipeline"],
        )
    return logged.model_id


def purge_runs(home: Path, run_ids: Collection[str], model_ids: Collection[str]) -> list[str]:
    """Delete runs with their logged models and artifacts for good; return a sentence for each thing that stays.

    A tracking server keeps what it deletes until `mlflow gc` is run there.
    """
    import mlflow
    from mlflow.cli import gc
    from mlflow.exceptions import MlflowException

    if not run_ids:
        return []
    uri = tracking_uri(home)
    client = mlflow.MlflowClient(uri)
    experiments = [found.experiment_id for found in client.search_experiments(view_type=3)]
    models, runs = set[str](), set[str]()
    for run_id in run_ids:
        try:
            client.delete_run(run_id)
            runs.add(run_id)
        except MlflowException:
            continue  # it was deleted before
        logged = client.search_logged_models(experiments, filter_string=f"source_run_id = '{run_id}'")
        models |= {model.model_id for model in logged}
    for model_id in {*models, *model_ids}:
        try:
            client.delete_logged_model(model_id)
            models.add(model_id)
        except MlflowException:
            models.discard(model_id)
    if has_server(home):
        return [f"the MLflow server at {uri} keeps what was deleted: run `mlflow gc` there"]
    chosen = ["--run-ids", ",".join(sorted(runs)), "--logged-model-ids", ",".join(sorted(models))]
    if runs or models:
        with contextlib.redirect_stdout(io.StringIO()):
            gc.main(["--backend-store-uri", uri, "--tracking-uri", uri, *chosen], standalone_mode=False)
    # MLflow leaves the empty folders of what it deletes.
    for name in {*runs, *models}:
        for folder in artifacts(home).rglob(name):
            shutil.rmtree(folder)
    return []


class _ServedClassifier:
    """The model that MLflow serves; normalisation is part of it."""

    def __init__(self, checkpoint: Checkpoint):
        from ecg_pipeline.models.load import load_classifier

        self.classifier = load_classifier(checkpoint)

    def predict(self, examples: Any, params: Mapping[str, Any] | None = None) -> NDArray[np.float32]:
        """Probability of the label for each example."""
        import torch

        array = np.asarray(examples[INPUT] if isinstance(examples, Mapping) else examples)
        with torch.inference_mode():
            return self.classifier(torch.as_tensor(array)).float().sigmoid()[:, 0].numpy()


def _load_pyfunc(path: str) -> _ServedClassifier:
    """MLflow's entry point to load a model logged by `log_classifier`."""
    return _ServedClassifier(Checkpoint(Path(path)))


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
