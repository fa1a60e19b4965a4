"""A study's line run from a terminal: Dagster runs in the Dagster instance of the study's home, several at once."""

import json
import re
import time
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import dagster as dg

from ecg_pipeline.files import write_text
from ecg_pipeline.orchestration.partitions import AssetGraph
from ecg_pipeline.orchestration.plan import Plan, Run
from ecg_pipeline.orchestration.resources import HOSPITALS, PROCESS, House
from ecg_pipeline.orchestration.run_worker import Outcome, RunWorker, execute
from ecg_pipeline.provenance.lease import is_dead

INSTANCE = """\
# Dagster sends usage statistics, and asks for a mail address, unless told not to.
telemetry:
  enabled: false
nux:
  enabled: false
"""

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""Run configuration: the terminal shows progress and errors, the event log has everything."""


class LineFailure(RuntimeError):  # noqa: N818
    """A run did not succeed; what was done before it, and what does not depend on it, stands."""


def _quiet(text: str) -> None:
    """Nobody is told."""


@dataclass(frozen=True)
class Line:
    """A study's definitions and house, and how their runs are made.

    jobs: how many runs are made at once. One is made in this process; several by worker processes, which load the
    active study (`ECG_STUDY`) themselves. config: Dagster run config of every run. log is told of every run that
    ended; status, of what is under way.
    """

    definitions: dg.Definitions
    house: House
    jobs: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    log: Callable[[str], object] = _quiet
    status: Callable[[str], object] = _quiet

    def bring_up_to_date(
        self, assets: Sequence[str] = ("*",), partitions: Sequence[str] = (), instance: dg.DagsterInstance | None = None
    ) -> list[Run]:
        """Make runs of whatever of these assets is due, in the order of the graph, and return them.

        assets: names, `+name` with everything upstream, `name+` downstream, or any of Dagster's asset selections.
        partitions: keys, or keys of one dimension; none means all. What no asset answers to is a LineFailure. So is a
        failed run, when everything that does not depend on it is done. instance: by default that of the home.
        """
        graph = self.definitions.resolve_asset_graph()
        selected = frozenset(key for terms in assets for key in select(graph, terms))
        plan = Plan(self.house, graph, selected, partitions)
        with nullcontext(instance) if instance else open_instance(self.house.home) as opened:
            end_dead_runs(opened)
            with _Runs(self, opened) as runs:
                return runs.make(plan, _sources(graph))


class _Runs:
    """The runs of one plan, under way and ended."""

    def __init__(self, line: Line, instance: dg.DagsterInstance):
        self.line = line
        self.instance = instance
        self.workers: list[RunWorker] = []
        self.began: dict[Run, float] = {}
        self.failures: list[str] = []
        self.ended: list[Run] = []

    def __enter__(self) -> "_Runs":
        return self

    def __exit__(self, *error: object) -> None:
        for worker in self.workers:
            worker.end()

    def make(self, plan: Plan, sources: tuple[dg.AssetKey, ...]) -> list[Run]:
        """Make what is due; the source assets are looked at before the first run that may read one."""
        is_observed = False
        while True:
            while len(self.began) < self.line.jobs and (run := plan.take()):
                if not is_observed and not _is_source_of_files(run):
                    is_observed = True
                    self._run(Run(sources, None))
                self._begin(plan, run)
            if not self.began:
                break
            self._hear(plan)
        if self.failures:
            told = "\n".join(self.failures)
            raise LineFailure(f"{told}\nWhat was done stands; the same command goes on from here.")
        return self.ended

    def _begin(self, plan: Plan, run: Run) -> None:
        self.began[run] = time.monotonic()
        self._show()
        if self.line.jobs == 1:
            self._end(plan, run, self._run(run))
            return
        worker = next((worker for worker in self.workers if worker.run is None), None)
        if worker is None:
            worker = RunWorker(self.instance.root_directory)
            self.workers.append(worker)
        worker.start(run, self._config())

    def _run(self, run: Run) -> Outcome:
        return execute(self.line.definitions, self.instance, run, self._config())

    def _config(self) -> dict[str, Any]:
        return {**QUIET, **self.line.config}

    def _hear(self, plan: Plan) -> None:
        """Wait for the workers, and take note of what they say."""
        ready = wait([worker.connection for worker in self.workers if worker.run])
        for worker in [worker for worker in self.workers if worker.connection in ready]:
            run = worker.run
            is_over, told = worker.hear()
            if run and is_over:
                worker.run, worker.progress = None, ""
                if worker.process.poll() is not None:
                    self.workers.remove(worker)
                self._end(plan, run, told)
        self._show()

    def _end(self, plan: Plan, run: Run, failure: Outcome) -> None:
        seconds = time.monotonic() - self.began.pop(run)
        plan.finish(run)
        if failure is None:
            self.ended.append(run)
        else:
            self.failures.append(failure)
        names = ", ".join(key.to_user_string() for key in run.assets)
        self.line.log(f"{'✗' if failure else '✓'} {seconds:6.1f} s  {run.partition or '':<22} {names}")

    def _show(self) -> None:
        telling = {worker.run: worker.progress for worker in self.workers}
        lines = [
            telling.get(run) or f"{run.partition or ''} {', '.join(key.to_user_string() for key in run.assets)}".strip()
            for run in self.began
        ]
        self.line.status(" · ".join(lines))


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark as failed the runs whose process has died without a word; their ids."""
    going = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    going.append(dg.DagsterRunStatus.CANCELING)
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=going)):
        if (process := run.tags.get(PROCESS)) and is_dead(process):
            instance.report_run_failed(run, f"the process of this run has died: {json.loads(process)['pid']}")
            ended.append(run.run_id)
    return ended


def instance_home(home: Path) -> Path:
    """The Dagster home below a study's home, with telemetry off."""
    folder = home / "dagster"
    if not (folder / "dagster.yaml").exists():
        write_text(folder / "dagster.yaml", INSTANCE)
    return folder


def open_instance(home: Path) -> dg.DagsterInstance:
    """The Dagster instance that the command line and the UI share."""
    return dg.DagsterInstance.from_config(str(instance_home(home)))


def select(graph: AssetGraph, terms: str) -> Set[dg.AssetKey]:
    """The assets that a selection names; a bare name stands for the asset's whole key."""
    named = re.fullmatch(r"(\d*\+)?([\w/]+)(\+\d*)?", terms)
    before, name, after = (part or "" for part in named.groups()) if named else ("", "", "")
    try:
        found = dg.AssetSelection.from_string(f'{before}key:"{name}"{after}' if named else terms).resolve(graph)
    except dg.DagsterError:
        raise LineFailure(f"{terms} is not an asset selection: write a name, +name, or group:name") from None
    if not found:
        keys = ", ".join(sorted(key.to_user_string() for key in graph.materializable_asset_keys))
        raise LineFailure(f"no asset of this study is {terms}; there are {keys}")
    return found


def _sources(graph: AssetGraph) -> tuple[dg.AssetKey, ...]:
    """The source assets, which Dagster observes in a run of their own so that it knows their present versions."""
    return tuple(sorted(graph.observable_asset_keys, key=lambda key: key.to_user_string()))


def _is_source_of_files(run: Run) -> bool:
    """Whether a run makes the files that the others read."""
    return run.assets == (HOSPITALS,)
