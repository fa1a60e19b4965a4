"""A small study, run from hospital files to reports once for all tests."""

import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest

from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline_tests.test_ui import assert_gone, start

SMALL = """\
extends: demo
name: small
synthetic: {patients: 130, ecgs: 200, seed: 3}
tokenizer: {vocabulary: 32, hidden: 8, steps: 40, batch: 8}
models:
  heartbeit: {width: 32, depth: 2, heads: 2}
  resnet: {family: timm, name: test_resnet}
  small_cnn: {widths: [8, 16]}
  ecg_fm: {conv_widths: [8, 8, 8, 8], width: 16, depth: 1, mlp_width: 32}
  ecgfounder: {base_filters: 8, widths: [8, 16], blocks: [1, 1]}
  d_beta: {conv_widths: [8, 8, 8, 8], width: 16, mlp_width: 32, text_width: 16, text_mlp_width: 32, joint_width: 16}
pretraining:
  heartbeit: {recipe: {epochs: 1, batch: 16, warmup_epochs: 0}}
  ecg_fm: {recipe: {epochs: 1, warmup_epochs: 0}}
  ecgfounder: {recipe: {epochs: 1, warmup_epochs: 0}}
  d_beta: {recipe: {epochs: 1, warmup_epochs: 0}}
tasks:
  hcm: {models: [heartbeit, small_cnn]}
  stemi: {models: [heartbeit, resnet, small_cnn]}
fractions: [0.5, 1.0]
finetuning: {epochs: 1, batch: 8, models: {
  small_cnn: {epochs: 2}, ecg_fm: {epochs: 1}, ecgfounder: {epochs: 1}, d_beta: {epochs: 1}}}
evaluation: {bootstrap_draws: 20}
image_distance: {images: 20}
saliency: {ecgs: 2, errors: 0}
"""

FEWER_MODELS = """\
extends: small.yaml
windows: {segments: null, filtered_window: null, millivolts: null}
models: {resnet: null, ecg_fm: null, ecgfounder: null, d_beta: null}
pretraining: {ecg_fm: null, ecgfounder: null, d_beta: null}
finetuning: {models: {ecg_fm: null, ecgfounder: null, d_beta: null}}
tasks:
  low_lvef: {prompts: null}
  hcm: {models: [small_cnn]}
  stemi: {models: [small_cnn]}
"""

BACKFILL = """
mutation ($assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, allPartitions: true}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
ASSETS = "{ assetNodes { assetKey { path } isMaterializable } }"
OVER = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}


@pytest.fixture(scope="session")
def small_study(tmp_path_factory) -> Path:
    """The study file, with ECG_HOME and ECG_STUDY set to it."""
    folder = tmp_path_factory.mktemp("study")
    path = folder / "small.yaml"
    path.write_text(SMALL)
    os.environ["ECG_HOME"] = str(folder / "home")
    os.environ["ECG_STUDY"] = str(path)
    return path


def open_runner(study_file):
    """A runner of a study file, whose runs are made in this process."""
    from ecg_pipeline.definitions import build_definitions, build_workspace
    from ecg_pipeline.orchestration.runs import Runner
    from ecg_pipeline.study import load_study

    workspace = build_workspace(load_study(study_file))
    return Runner(build_definitions(workspace), workspace)


@pytest.fixture(scope="session")
def runner(small_study):
    """The small study after everything in it was materialised."""
    opened = open_runner(small_study)
    assert opened.run_stale()
    return opened


@pytest.fixture(scope="session")
def pressed_study(small_study) -> Path:
    """The small study with fewer models, each of whose partitions is a process where it is made in the UI."""
    path = small_study.with_name("pressed.yaml")
    path.write_text(FEWER_MODELS)
    return path


@contextmanager
def press_everything(folder, study_file):
    """Ask for every partition of every asset at once in a home: its running servers, and how the backfill ended."""
    ui = start(folder, str(study_file))
    nodes = ui.graphql(ASSETS)["assetNodes"]
    wanted = [{"path": node["assetKey"]["path"]} for node in nodes if node["isMaterializable"]]
    launched = ui.graphql(BACKFILL, assets=wanted)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill = launched["backfillId"]

    def status():
        return ui.graphql(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"]

    ui.until(lambda: status() in OVER, "the end of the backfill", patience_s=3000)
    yield ui, status()
    family = ui.family()
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait() == 0, ui.log
    assert_gone(family, ui)


def check_all_succeeded(pressed, study):
    """A backfill succeeded, and each of its runs. study: its name."""
    ui, status = pressed
    with open_instance(ui.folder / study) as instance:
        runs = {run.run_id: run for run in instance.get_runs()}
        failed = {
            run_id: [entry.user_message for entry in instance.all_logs(run_id) if entry.level >= 40]
            for run_id, run in runs.items()
            if not run.is_success
        }
    assert not failed, json.dumps(failed, indent=2)
    assert status == "COMPLETED_SUCCESS"
    assert len(runs) > 10


@pytest.fixture(scope="session")
def pressed(pressed_study, tmp_path_factory):
    """A home in which everything of the small study with fewer models was pressed, with its servers still running."""
    with press_everything(tmp_path_factory.mktemp("pressed"), pressed_study) as found:
        yield found
