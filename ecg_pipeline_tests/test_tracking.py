"""MLflow over a study's home: many that come first, and what of a model is logged."""

import os
import sqlite3
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.links import Addresses, write_addresses
from ecg_pipeline.models.family import build_classifier, classifier_config
from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline_tests.at_once import run_at_once

TAGS = {"asset": "task/model/finetuned_model", "partition": "1"}

FIRST_RUN = """
import sys
from pathlib import Path
from ecg_pipeline.tracking import training_run

print("ready", flush=True)
sys.stdin.read(1)
with training_run(Path(sys.argv[1]), "study", {"asset": "a", "partition": ""}) as run:
    run.parameters({"recipe": {"epochs": 2}})
    run.metrics(1, {"loss": 0.5})
"""


@pytest.fixture(autouse=True)
def _no_tracking_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_eight_first_runs_at_the_same_moment_all_succeed(tmp_path):
    run_at_once(8, FIRST_RUN, str(tmp_path))
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as database:
        finished = database.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
        experiments = database.execute("select count(*) from experiments where name = 'study'").fetchone()
    assert (finished, experiments) == ((8,), (1,))


def test_what_is_logged_of_a_model_is_what_serving_needs_and_names_nobody(tmp_path):
    import mlflow

    from ecg_pipeline.tracking import log_classifier, training_run

    recipe = TimmRecipe(name="mobilenetv3_small_050")
    network = build_classifier(recipe, None, 0)
    checkpoint = save_checkpoint(
        tmp_path / "seed_0", state=network.state_dict(), config=classifier_config(recipe, None)
    )
    scored = pl.DataFrame({"ecg_id": ["r1"], "patient": ["pseudonym-of-somebody"], "label": [1], "score": [0.5]})
    write_parquet(checkpoint.folder / "validation.parquet", scored)

    with training_run(tmp_path, "study", TAGS):
        model = log_classifier("task-model", checkpoint, sheet=SheetRecipe(), filters=FilterRecipe())

    files = [path for path in (tmp_path / "mlflow" / "artifacts").rglob("*") if path.is_file()]
    assert {path.name for path in files if "checkpoint" in path.parts} == {"weights.safetensors", "config.json"}
    assert not [path for path in files if b"pseudonym-of-somebody" in path.read_bytes()]
    served = mlflow.pyfunc.load_model(f"models:/{model}")
    example = served.input_example["sheets"]
    assert np.asarray(example).shape == (1, 224, 224)
    assert np.asarray(example).min() < 128
    assert 0 < served.predict({"sheets": np.asarray(example, np.uint8)})[0] < 1


def test_the_page_of_a_run_is_on_the_servers_that_the_ui_started(tmp_path, monkeypatch):
    from ecg_pipeline.tracking import training_run

    with training_run(tmp_path, "study", TAGS) as run:
        assert run.page == f"http://127.0.0.1:3001/runs/{run.run_id}"
    write_addresses(tmp_path, Addresses(4000, 4001, 4002))
    with training_run(tmp_path, "study", TAGS) as run:
        assert run.page == f"http://127.0.0.1:4001/runs/{run.run_id}"


def test_no_statistics_are_sent():
    code = "import os, ecg_pipeline.tracking as t; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "true"
