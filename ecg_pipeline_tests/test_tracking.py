"""MLflow over a study's home: many that come first, and what of a model is logged."""

import os
import sqlite3
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.example import example_images
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.links import Addresses, write_addresses
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.load import build_classifier, classifier_facts, load_classifier
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.signals.example import example_window
from ecg_pipeline.signals.filters import FilterRecipe
from ecg_pipeline.signals.windows import WindowRecipe
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.training.weights import save_checkpoint
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


def checkpoint_of(recipe, folder):
    """A checkpoint of a classifier with random weights."""
    state = build_classifier(recipe, None, seed=0).state_dict()
    return save_checkpoint(folder, state=state, config=classifier_facts(recipe, None))


@pytest.fixture(autouse=True)
def _no_tracking_server(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_first_runs_at_the_same_moment_all_succeed(tmp_path):
    run_at_once(3, FIRST_RUN, str(tmp_path))
    with sqlite3.connect(tmp_path / "mlflow" / "mlflow.db") as database:
        finished = database.execute("select count(*) from runs where status = 'FINISHED'").fetchone()
        experiments = database.execute("select count(*) from experiments where name = 'study'").fetchone()
    assert (finished, experiments) == ((3,), (1,))


def test_what_is_logged_of_a_model_is_what_serving_needs_and_names_nobody(tmp_path):
    import mlflow

    from ecg_pipeline.tracking import log_classifier, training_run

    checkpoint = checkpoint_of(TimmRecipe(name="mobilenetv3_small_050"), tmp_path / "seed_0")
    scored = pl.DataFrame({"ecg_id": ["r1"], "patient": ["pseudonym-of-somebody"], "label": [1], "score": [0.5]})
    write_parquet(checkpoint.folder / "validation.parquet", scored)

    with training_run(tmp_path, "study", TAGS):
        model = log_classifier("task-model", checkpoint, example_images(SheetRecipe(), FilterRecipe()))

    files = [path for path in (tmp_path / "mlflow" / "artifacts").rglob("*") if path.is_file()]
    assert {path.name for path in files if "checkpoint" in path.parts} == {"weights.safetensors", "config.json"}
    assert not [path for path in files if b"pseudonym-of-somebody" in path.read_bytes()]
    served = mlflow.pyfunc.load_model(f"models:/{model}")
    example = served.input_example["examples"]
    assert np.asarray(example).shape == (1, 224, 224)
    assert np.asarray(example).min() < 128
    assert 0 < served.predict({"examples": np.asarray(example, np.uint8)})[0] < 1


WINDOW = WindowRecipe(leads=("I", "II"), sampling_hz=100, seconds=2.0)


@pytest.mark.parametrize(
    ("recipe", "example", "dtype", "shape"),
    [
        (
            TimmRecipe(name="test_resnet"),
            lambda: example_images(SheetRecipe(), FilterRecipe()),
            np.uint8,
            (-1, 224, 224),
        ),
        (SmallCnnRecipe(leads=2, widths=(4, 8)), lambda: example_window(WINDOW), np.float32, (-1, 2, 200)),
    ],
    ids=["images", "waveforms"],
)
def test_a_served_model_states_what_it_reads_and_gives_one_probability_an_example(
    tmp_path, recipe, example, dtype, shape
):
    import mlflow
    import torch

    from ecg_pipeline.tracking import log_classifier, training_run

    checkpoint, one = checkpoint_of(recipe, tmp_path / "seed_0"), example()
    with training_run(tmp_path, "study", TAGS):
        model = log_classifier("task-model", checkpoint, one)
    served = mlflow.pyfunc.load_model(f"models:/{model}")
    signature = served.metadata.signature
    (examples,), (scores,) = signature.inputs.inputs, signature.outputs.inputs
    assert (examples.name, examples.type, examples.shape) == ("examples", np.dtype(dtype), shape)
    assert (scores.name, scores.type, scores.shape) == ("probability", np.dtype(np.float32), (-1,))
    assert np.array_equal(np.asarray(served.input_example["examples"], one.dtype), one)
    three = np.concatenate([one, one[..., ::-1], one * 0])
    with torch.inference_mode():
        log_odds = load_classifier(checkpoint)(torch.from_numpy(three))[:, 0].numpy()
    np.testing.assert_allclose(served.predict({"examples": three}), 1 / (1 + np.exp(-log_odds)), atol=1e-6)
    with pytest.raises(mlflow.exceptions.MlflowException, match="shape"):
        served.predict({"examples": three[..., :-1]})


def test_the_page_of_a_run_is_on_the_servers_that_the_ui_started(tmp_path, monkeypatch):
    from ecg_pipeline.tracking import training_run

    with training_run(tmp_path, "study", TAGS) as run:
        assert run.page == f"http://127.0.0.1:3001/runs/{run.run_id}"
    write_addresses(tmp_path, Addresses(4000, 4001, 4002))
    with training_run(tmp_path, "study", TAGS) as run:
        assert run.page == f"http://127.0.0.1:4001/runs/{run.run_id}"


def test_runs_are_purged_with_their_models_and_the_others_stay(tmp_path):
    from ecg_pipeline.storage.databases import erase_words
    from ecg_pipeline.tracking import log_classifier, purge_runs, training_run

    checkpoint, ids = checkpoint_of(SmallCnnRecipe(leads=2, widths=(4, 8)), tmp_path / "seed_0"), []
    for loss in (0.25, 0.75):
        with training_run(tmp_path, "study", TAGS) as run:
            run.parameters({"epochs": 2})
            run.metrics(1, {"loss": loss})
            ids.append((run.run_id, log_classifier("task-model", checkpoint, example_window(WINDOW))))
    (old_run, old_model), (new_run, new_model) = ids
    served = tmp_path / "mlflow" / "artifacts" / "models" / old_model
    assert any(path.is_file() for path in served.rglob("*"))
    assert purge_runs(tmp_path, {old_run}, set()) == []
    database = tmp_path / "mlflow" / "mlflow.db"
    erase_words(database, [], "")
    folders = {path.name for path in (tmp_path / "mlflow" / "artifacts").rglob("*") if path.is_dir()}
    assert new_model in folders
    assert not {old_model, old_run} & folders
    with sqlite3.connect(database) as opened:
        assert opened.execute("select run_uuid from runs").fetchall() == [(new_run,)]
        assert opened.execute("select model_id from logged_models").fetchall() == [(new_model,)]
        assert opened.execute("select value from metrics where key = 'loss'").fetchall() == [(0.75,)]
    assert purge_runs(tmp_path, {old_run}, {old_model}) == [], "again"
    assert purge_runs(tmp_path, set(), set()) == []


def test_no_statistics_are_sent():
    code = "import os, ecg_pipeline.tracking as t; print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW")}
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "true"
