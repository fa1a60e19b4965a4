"""The trainer is a process of its own: what stops it is a failed step in words, and the same command goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import dagster as dg
import psutil
import pytest

from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.runs import RunsFailed

TRAINER = "ecg_pipeline.orchestration.trainer"
ASSET = "heartbeit/pretrained_checkpoint"


def is_trainer(process):
    """Whether a process that may end meanwhile runs the trainer."""
    try:
        return TRAINER in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # a zombie counts as the first
        return False


@contextmanager
def stale_pretraining(runner):
    """Make the pretraining stale; afterwards its output must be what it was."""
    before = runner.workspace.archive.require(ASSET, None)
    place = runner.workspace.archive.place(ASSET, None)
    (place / "record.json").rename(place / "aside.json")
    shutil.rmtree(runner.workspace.archive.folder(before))
    try:
        yield
        again = runner.workspace.archive.require(ASSET, None)
        assert (again.data_version, again.files) == (before.data_version, before.files)
        assert again.mlflow_run_id not in (None, before.mlflow_run_id)
    finally:
        (place / "aside.json").rename(place / "record.json")


def test_a_trainer_that_fails_says_why_and_goes_on(runner):
    with stale_pretraining(runner):
        elsewhere = replace(runner, config={"resources": {"workspace": {"config": {"device": "no_such_device"}}}})
        with pytest.raises(RunsFailed, match="no_such_device"):
            elsewhere.run_stale([ASSET])
        assert runner.workspace.archive.newest(ASSET, None) is None
        assert len(runner.run_stale([ASSET])) == 1


def living(processes):
    return [process for process in processes if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


def started_trainer(process):
    """The trainer below a process, as soon as there is one."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        trainer = next((child for child in psutil.Process(process.pid).children(True) if is_trainer(child)), None)
        if trainer is not None:
            return trainer
        time.sleep(0.05)
    raise AssertionError("no trainer was started")


def test_a_command_killed_leaves_nothing_behind_and_the_next_one_goes_on(runner):
    """No process and no lease; its run, which could not say that it ended, is marked as failed by the next command."""
    with stale_pretraining(runner):
        command = [sys.executable, "-m", "ecg_pipeline.cli", "materialize", ASSET]
        process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
        started_trainer(process)
        family = psutil.Process(process.pid).children(True)
        process.kill()
        process.wait()
        deadline = time.monotonic() + 120
        while living(family) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not living(family)
        with open_instance(runner.workspace.home) as instance:
            going = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            assert len(going) == 1
            assert len(runner.run_stale([ASSET])) == 1
            assert instance.get_run_by_id(going[0].run_id).status == dg.DagsterRunStatus.FAILURE


def test_a_trainer_killed_from_outside_is_a_failed_step_and_goes_on(runner):
    with stale_pretraining(runner):
        command = [sys.executable, "-m", "ecg_pipeline.cli", "materialize", ASSET]
        process = subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        started_trainer(process).send_signal(signal.SIGKILL)
        said = process.communicate()[0].decode()
        assert process.returncode == 2
        assert "was killed" in said
        assert runner.workspace.archive.newest(ASSET, None) is None
        assert len(runner.run_stale([ASSET])) == 1
