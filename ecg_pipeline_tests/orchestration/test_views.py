"""Studies of waveforms alone have nothing of images, and a window that several models read is cut once."""

import dagster as dg
import pytest

from ecg_pipeline.cohorts.test_set import TestSet
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.signals.windows import WaveformWindows
from ecg_pipeline_tests.orchestration.conftest import open_runner

STUDY = """\
extends: demo
name: waveforms
paper: null
synthetic: {patients: 100, ecgs: 150, seed: 3}
windows:
  three_leads: {leads: [II, V1, V5], sampling_hz: 50, seconds: 5.0}
  segments: null
  filtered_window: null
  millivolts: null
models:
  heartbeit: null
  ecg_fm: null
  ecgfounder: null
  d_beta: null
  small_cnn: {widths: [8, 16]}
  wide: {family: small_cnn, window: ten_seconds, widths: [16, 16]}
  narrow: {family: small_cnn, window: three_leads, leads: 3, widths: [8]}
pretraining: null
tasks: {low_lvef: {prompts: null}, hcm: null, stemi: null}
fractions: [1.0]
finetuning: {epochs: 1, batch: 8, models: null}
evaluation: {bootstrap_draws: 20}
saliency: {ecgs: 1, errors: 0}
"""
TASK, SITE = "low_lvef", "mount_sinai"
READ_BY = {"ten_seconds": ("small_cnn", "wide"), "three_leads": ("narrow",)}
OF_IMAGES = (
    "filtered_waveforms",
    "image_shards",
    "image_tokenizer",
    "patch_tokens",
    "image_distance",
    "natural_images",
    "pretrained_checkpoint",
)


@pytest.fixture(scope="module")
def waveforms(tmp_path_factory):
    """A study of three waveform networks, two of which read one window, after everything in it was materialised."""
    folder = tmp_path_factory.mktemp("waveforms")
    study = folder / "waveforms.yaml"
    study.write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_HOME", str(folder / "home"))
        patch.setenv("ECG_STUDY", str(study))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        runner = open_runner(study)
        assert runner.run_stale()
        yield runner


def asset_names(runner):
    return {key.to_user_string() for key in runner.definitions.resolve_asset_graph().get_all_asset_keys()}


def windows_read(runner, model):
    """The windows that a model was trained on: by asset and site, the version."""
    record = runner.workspace.archive.require(f"{TASK}/{model}/finetuned_model", "1")
    return {
        (entry.asset, entry.partition): entry.data_version
        for entry in record.upstream
        if entry.asset.startswith("waveform_windows/")
    }


def test_a_study_without_images_has_no_asset_of_images(waveforms):
    names = asset_names(waveforms)
    assert not [name for name in names if name.split("/")[-1] in OF_IMAGES]
    assert {"waveform_store", f"{TASK}/small_cnn/evaluation", f"{TASK}/saliency", "benchmark_report"} <= names
    made = {path.name for path in waveforms.workspace.archive.root.rglob("*") if path.is_dir()}
    assert not made & set(OF_IMAGES)


def test_a_study_without_images_is_read_and_retrained_by_its_jobs(waveforms):
    jobs = {job.name: job for job in waveforms.definitions.jobs}
    assert "pretrain" not in jobs, "there is nothing to pretrain"
    ingest = waveforms.definitions.resolve_job_def("ingest").asset_layer.executable_asset_keys
    assert {key.to_user_string() for key in ingest} == {
        "waveform_store",
        "clinical_labels",
        *(f"waveform_windows/{window}" for window in READ_BY),
    }


def test_a_study_without_images_runs_from_files_to_its_report(waveforms):
    assert waveforms.run_stale() == []
    report = Report(waveforms.workspace.archive.folder(waveforms.workspace.archive.require("benchmark_report", None)))
    results = report.results()
    assert set(results["model"]) == {"small_cnn", "wide", "narrow"}
    assert set(results["site"]) == {"mount_sinai", "beth_israel", "all internal", "morningside"}
    assert results["auroc"].null_count() == 0
    page = report.page.read_text()
    for word in ("tokenizer", "Wasserstein"):
        assert word not in page


def test_models_that_read_one_window_share_its_asset(waveforms):
    windows = {name for name in asset_names(waveforms) if name.startswith("waveform_windows/")}
    assert windows == {f"waveform_windows/{window}" for window in READ_BY}
    archive, sites = waveforms.workspace.archive, waveforms.workspace.study.sites
    with open_instance(waveforms.workspace.home) as instance:
        for asset in windows:
            key = dg.AssetKey(asset.split("/"))
            events = instance.fetch_materializations(dg.AssetRecordsFilter(key), limit=100).records
            assert sorted(event.partition_key for event in events) == sorted(sites), "once a site"
            assert [archive.times(asset, site) for site in sites] == [1] * len(sites)
    for window, models in READ_BY.items():
        read = {
            site: archive.require(f"waveform_windows/{window}", site).data_version for site in (SITE, "beth_israel")
        }
        for model in models:
            assert windows_read(waveforms, model) == {
                (f"waveform_windows/{window}", site): version for site, version in read.items()
            }


def test_each_window_is_what_its_recipe_says(waveforms):
    archive = waveforms.workspace.archive
    for window, recipe in waveforms.workspace.study.windows.items():
        made = WaveformWindows(archive.folder(archive.require(f"waveform_windows/{window}", SITE)))
        assert {array.shape[1:] for _, array in made} == {recipe.shape}
        assert tuple(made.attributes()["leads"]) == recipe.leads
        assert made.attributes()["sampling_hz"] == recipe.sampling_hz


def test_a_test_set_holds_each_view_once_and_all_models_are_tested_on_the_same_ecgs(waveforms):
    archive = waveforms.workspace.archive
    tested = TestSet(archive.folder(archive.require(f"{TASK}/test_set", SITE)))
    ecg_ids = set(tested.table()["ecg_id"])
    for window, recipe in waveforms.workspace.study.windows.items():
        view = tested.view(f"waveform_windows/{window}")
        assert set(view.index()["ecg_id"]) == ecg_ids
        assert view.read_ecgs(sorted(ecg_ids)).shape[1:] == recipe.shape
    assert tested.left_out() == {f"waveform_windows/{window}": 0 for window in READ_BY}
    for model in ("small_cnn", "wide", "narrow"):
        made = Evaluation(archive.folder(archive.require(f"{TASK}/{model}/evaluation", f"1|{SITE}")))
        assert set(made.predictions()["ecg_id"]) == ecg_ids
