"""Run what is stale of a study: Dagster runs in the Dagster instance of the study's home, several at once."""

import json
import re
import time
from collections.abc import Callable, Sequence, Set
from contextlib import nullcontext
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from typing import Any

import dagster as dg

from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.partitions import AssetGraph
from ecg_pipeline.orchestration.plan import Plan, Run
from ecg_pipeline.orchestration.resources import HOSPITAL_SYSTEM, PROCESS, Workspace
from ecg_pipeline.orchestration.run_worker import Outcome, RunWorker, execute
from ecg_pipeline.provenance.lease import is_dead

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""Run configuration: the terminal shows progress and errors, the event log has everything."""


class RunsFailed(RuntimeError):  # noqa: N818
    """Runs failed, or none could be selected. Outputs of other runs are kept."""


def _no_output(text: str) -> None:
    """No-op log or status callback."""


@dataclass(frozen=True)
class Runner:
    """Makes the stale outputs of a study in its workspace, as Dagster runs.

    jobs: number of runs at once. A single one is executed in this process, several in worker processes, which load the
    active study (`ECG_STUDY`) themselves. config: Dagster run config of every run. log: called with a line for each
    run that has ended; status: called with what is running.
    """

    definitions: dg.Definitions
    workspace: Workspace
    jobs: int = 1
    config: dict[str, Any] = field(default_factory=dict)
    log: Callable[[str], object] = _no_output
    status: Callable[[str], object] = _no_output

    def run_stale(
        self, assets: Sequence[str] = ("*",), partitions: Sequence[str] = (), instance: dg.DagsterInstance | None = None
    ) -> list[Run]:
        """Run the stale partitions of these assets in the order of the graph, and return the runs.

        assets: names, `+name` with everything upstream, `name+` downstream, or any of Dagster's asset selections.
        partitions: keys, or keys of one dimension; none means all. RunsFailed if a selection is invalid, or if runs
        failed, once everything that does not depend on them is done. instance: by default that of the home.
        """
        graph = self.definitions.resolve_asset_graph()
        selected = frozenset(key for terms in assets for key in select(graph, terms))
        plan = Plan(self.workspace, graph, selected, partitions)
        with nullcontext(instance) if instance else open_instance(self.workspace.home) as opened:
            end_dead_runs(opened)
            with _Runs(self, opened) as runs:
                return runs.make(plan, _sources(graph))


class _Runs:
    """The runs of one plan: running, ended and failed."""

    def __init__(self, runner: Runner, instance: dg.DagsterInstance):
        self.runner = runner
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
        """Make the stale partitions; the source assets are observed before the first run that may read one."""
        is_observed = False
        while True:
            while len(self.began) < self.runner.jobs and (run := plan.next_run()):
                if not is_observed and not _is_source_of_files(run):
                    is_observed = True
                    self._run(Run(sources, None))
                self._begin(plan, run)
            if not self.began:
                break
            self._receive(plan)
        if self.failures:
            failures = "\n".join(self.failures)
            raise RunsFailed(f"{failures}\nOther outputs are kept: run the same command again to continue.")
        return self.ended

    def _begin(self, plan: Plan, run: Run) -> None:
        self.began[run] = time.monotonic()
        self._update_status()
        if self.runner.jobs == 1:
            self._end(plan, run, self._run(run))
            return
        worker = next((worker for worker in self.workers if worker.run is None), None)
        if worker is None:
            worker = RunWorker(self.instance.root_directory)
            self.workers.append(worker)
        worker.start(run, self._config())

    def _run(self, run: Run) -> Outcome:
        return execute(self.runner.definitions, self.instance, run=run, config=self._config())

    def _config(self) -> dict[str, Any]:
        return {**QUIET, **self.runner.config}

    def _receive(self, plan: Plan) -> None:
        """Wait for messages of the workers, and handle them."""
        ready = wait([worker.connection for worker in self.workers if worker.run])
        for worker in [worker for worker in self.workers if worker.connection in ready]:
            run = worker.run
            is_over, failure = worker.receive()
            if run and is_over:
                worker.run, worker.progress = None, ""
                if worker.process.poll() is not None:
                    self.workers.remove(worker)
                self._end(plan, run, failure)
        self._update_status()

    def _end(self, plan: Plan, run: Run, failure: Outcome) -> None:
        seconds = time.monotonic() - self.began.pop(run)
        plan.finish(run)
        if failure is None:
            self.ended.append(run)
        else:
            self.failures.append(failure)
        names = ", ".join(key.to_user_string() for key in run.assets)
        self.runner.log(f"{'✗' if failure else '✓'} {seconds:6.1f} s  {run.partition or '':<22} {names}")

    def _update_status(self) -> None:
        progress = {worker.run: worker.progress for worker in self.workers}
        lines = [
            progress.get(run)
            or f"{run.partition or ''} {', '.join(key.to_user_string() for key in run.assets)}".strip()
            for run in self.began
        ]
        self.runner.status(" · ".join(lines))


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """Mark the runs whose process has died as failed; return their ids."""
    going = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    going.append(dg.DagsterRunStatus.CANCELING)
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=going)):
        if (process := run.tags.get(PROCESS)) and is_dead(process):
            instance.report_run_failed(run, f"the process of this run was killed: {json.loads(process)['pid']}")
            ended.append(run.run_id)
    return ended


def select(graph: AssetGraph, terms: str) -> Set[dg.AssetKey]:
    """Resolve a selection to asset keys; a bare name is the whole key of one asset."""
    named = re.fullmatch(r"(\d*\+)?([\w/]+)(\+\d*)?", terms)
    before, name, after = (group or "" for group in named.groups()) if named else ("", "", "")
    try:
        found = dg.AssetSelection.from_string(f'{before}key:"{name}"{after}' if named else terms).resolve(graph)
    except dg.DagsterError:
        raise RunsFailed(f"{terms} is not an asset selection: write a name, +name, or group:name") from None
    if not found:
        keys = ", ".join(sorted(key.to_user_string() for key in graph.materializable_asset_keys))
        raise RunsFailed(f"the study has no asset {terms}; its assets are {keys}")
    return found


def _sources(graph: AssetGraph) -> tuple[dg.AssetKey, ...]:
    """Keys of the source assets, which are observed in a run of their own to record their present versions."""
    return tuple(sorted(graph.observable_asset_keys, key=lambda key: key.to_user_string()))


def _is_source_of_files(run: Run) -> bool:
    """Whether a run writes the synthetic drop folders."""
    return run.assets == (HOSPITAL_SYSTEM,)
