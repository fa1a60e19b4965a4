"""A fraction whose training ECGs have one label: every asset from fine-tuning to the report says so, and none fails."""

import pytest

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.orchestration.partitions import fraction_key
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline_tests.orchestration.conftest import open_runner

STUDY = """\
extends: demo
name: one_label
paper: null
synthetic: {{patients: 130, ecgs: 200, seed: 3}}
sites: {{mount_sinai: null, beth_israel: null, morningside: null}}
models:
  heartbeit: null
  ecg_fm: null
  ecgfounder: null
  d_beta: null
  small_cnn: {{widths: [8, 16]}}
  guess: {{like: small_cnn, frozen: true}}
pretraining: null
tasks: {{low_lvef: null, hcm: null, stemi: {{models: [small_cnn, guess]}}}}
fractions: [{fraction}, 1.0]
finetuning: {{epochs: 1, models: {{ecg_fm: null, ecgfounder: null, d_beta: null, small_cnn: {{epochs: 1}}}}}}
evaluation: {{bootstrap_draws: 20}}
saliency: {{ecgs: 1, errors: 0}}
"""


def opened(folder, fraction, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(folder / "home"))
    path = folder / "study.yaml"
    path.write_text(STUDY.format(fraction=fraction))
    monkeypatch.setenv("ECG_STUDY", str(path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_runner(path)


def folder_of(runner, asset, partition=None):
    return runner.workspace.archive.folder(runner.workspace.archive.require(asset, partition))


def healthy_fraction(cohort):
    """The largest fraction of the training patients, in six digits, that holds one label."""
    train = cohort.train(1.0).sort("fraction_order")
    places = sorted(set(train["fraction_order"]))
    labels = [set(train.filter(train["fraction_order"] <= place)["label"]) for place in places]
    alone = sum(len(found) == 1 for found in labels)
    return float(f"{(alone - 0.5) / len(places):.4g}")


@pytest.mark.acceptance
def test_a_fraction_of_one_label_goes_through_to_the_report(tmp_path, monkeypatch):
    first = opened(tmp_path, 0.5, monkeypatch)
    assert first.run_stale(["hospital_system", "waveform_store", "clinical_labels", "stemi/cohort"])
    fraction = healthy_fraction(Cohort(folder_of(first, "stemi/cohort")))
    runner = opened(tmp_path, fraction, monkeypatch)
    assert runner.run_stale()
    key = fraction_key(fraction)
    for model in ("small_cnn", "guess"):
        made = FinetunedModel(folder_of(runner, f"stemi/{model}/finetuned_model", key))
        assert made.not_trained
        assert made.not_trained.startswith("not trained: the ")
        evaluated = Evaluation(folder_of(runner, f"stemi/{model}/evaluation", f"{key}|ptb_xl_like"))
        assert evaluated.not_trained == evaluated.metrics()["reason"] == made.not_trained
        assert evaluated.metrics()["ecgs"] > 0
        assert Evaluation(folder_of(runner, f"stemi/{model}/evaluation", "1|ptb_xl_like")).metrics()["auroc"]
    report = Report(folder_of(runner, "stemi/report"))
    rows = report.results().filter(fraction=fraction)
    assert rows["not_trained"].null_count() == 0
    assert report.results().filter(fraction=1.0)["not_trained"].null_count() == 2
    assert report.page.read_text().count("hold one label") >= 2
