"""A pretraining that is terminated in the UI: nothing of it is left running or held, and it goes on where it was."""

import re
import signal
import time

import psutil
import pytest

from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes
from ecg_pipeline_tests.test_ui import LAUNCH, TERMINATE, assert_gone, start

pytestmark = pytest.mark.acceptance

CHECKPOINT = ["heartbeit", "pretrained_checkpoint"]
LONG = "{heartbeit: {recipe: {epochs: 5000}}}"


@pytest.fixture
def ui(runner, small_study, tmp_path, monkeypatch):
    """The servers over a home in which everything stands but a long pretraining."""
    changed = with_changes(small_study, tmp_path, pretraining=LONG)
    copied_runner(runner, changed, tmp_path, monkeypatch)
    running = start(tmp_path, str(changed))
    yield running
    family = running.family()
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait() == 0, running.log
    assert_gone(family, running)


def launched(ui):
    answer = ui.graphql(LAUNCH, asset=CHECKPOINT)["launchRun"]
    assert answer["__typename"] == "LaunchRunSuccess", answer
    return answer["run"]["runId"]


def trainers():
    """Processes that train for this test."""
    found = []
    for process in psutil.process_iter():
        try:
            if "ecg_pipeline.orchestration.trainer" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def first_progress(instance, run_id):
    """The first "done of total" of a run, as two numbers; None before."""
    for entry in instance.all_logs(run_id):
        if found := re.search(r"pretrained_checkpoint: (\d+) of (\d+)", entry.user_message):
            return int(found[1]), int(found[2])
    return None


def terminated(ui, instance, run_id):
    """Terminate a run as the UI does, and return how many seconds later nothing of it was left."""
    asked = time.monotonic()
    assert ui.graphql(TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
    ui.until(lambda: instance.get_run_by_id(run_id).is_finished, "the end of the run")
    assert instance.get_run_by_id(run_id).status.value == "CANCELED"
    ui.until(lambda: not trainers(), "the end of the trainer")
    return time.monotonic() - asked


def test_a_terminated_pretraining_leaves_nothing_and_goes_on(ui):
    home = ui.folder / "small"
    with open_instance(home) as instance:
        run_id = launched(ui)
        ui.until(lambda: list((home / "assets").rglob(".run_state.pt")), "the first state that is kept")
        assert trainers()
        (state,) = (home / "assets").rglob(".run_state.pt")
        print(f"gone after {terminated(ui, instance, run_id):.1f} s")
        assert not (state.parents[2] / ".lease").exists()
        again = launched(ui)
        ui.until(lambda: first_progress(instance, again), "the pretraining going on")
        assert first_progress(instance, run_id) < first_progress(instance, again), "it goes on from the kept state"
        terminated(ui, instance, again)
