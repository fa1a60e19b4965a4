"""The Dagster instance of a study: its home, its limits, and the processes of its runs."""

import os
from importlib.resources import files
from pathlib import Path
from string import Template

import dagster as dg
import psutil
import yaml

from ecg_pipeline.storage.files import locked, write_text

TRAINING, DATA = "training", "data"
"""Pools: trainings, which use one thread each, and data stages, each of which uses all cores."""

IN_PROGRESS = (dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""States of a run that has been given a process."""


def instance_home(home: Path) -> Path:
    """`DAGSTER_HOME`, by default a folder in the study's home. A new one gets our `dagster.yaml`."""
    folder = Path(os.environ.get("DAGSTER_HOME") or home / "dagster")
    with locked(folder / ".lock"):
        if not (folder / "dagster.yaml").exists():
            shipped = files("ecg_pipeline.orchestration").joinpath("dagster.yaml").read_text(encoding="utf-8")
            write_text(folder / "dagster.yaml", Template(shipped).substitute(RUNS=max(2, _cores())))
    return folder


def other_storage(home: Path) -> str | None:
    """Where `dagster.yaml` keeps runs and events if not in SQLite files of the Dagster home; None if there."""
    settings = yaml.safe_load((instance_home(home) / "dagster.yaml").read_text(encoding="utf-8")) or {}
    stored = [key for key in ("storage", "run_storage", "event_log_storage", "schedule_storage") if key in settings]
    kinds = {kind for key in stored for kind in settings[key] if kind != "sqlite"}
    return ", ".join(sorted(kinds)) or None


def open_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance that the command line and the UI share, its databases made and its pools limited."""
    folder = instance_home(home)
    # Two processes that create the database's tables at the same time corrupt them.
    with locked(folder / ".lock"):
        instance = dg.DagsterInstance.from_config(str(folder))
        instance.get_runs_count()
        instance.all_instigator_state()
        _limit_pools(instance)
    return instance


def run_process(instance: dg.DagsterInstance, run_id: str) -> psutil.Process | None:
    """The process of a run, as in its events, if it is still alive on this machine."""
    events = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for event in reversed(events):
        said = event.get_dagster_event().engine_event_data.metadata.get("pid")
        if said is not None:
            return _living(int(str(said.value)), event.timestamp)
    return None


def _living(pid: int, seen_at: float) -> psutil.Process | None:
    """The process with this id, if it started before `seen_at`; a later one has reused the id."""
    try:
        process = psutil.Process(pid)
        lives = process.create_time() <= seen_at and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if lives else None


def _limit_pools(instance: dg.DagsterInstance) -> None:
    """Set the default limits of our pools, except where a user has set one."""
    by_hand = {pool.name for pool in instance.event_log_storage.get_pool_limits() if not pool.from_default}
    for pool, limit in ((TRAINING, _cores()), (DATA, 1)):
        if pool not in by_hand:
            instance.event_log_storage.set_concurrency_slots(pool, limit)


def _cores() -> int:
    return os.cpu_count() or 1
