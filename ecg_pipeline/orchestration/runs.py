"""A study's line run from a terminal: Dagster runs in this process, in the Dagster instance of the study's home."""

import re
import time
from collections.abc import Sequence, Set
from dataclasses import dataclass

import dagster as dg
from rich.status import Status

from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.partitions import AssetGraph
from ecg_pipeline.orchestration.plan import Run, due_runs
from ecg_pipeline.orchestration.resources import House

QUIET = {"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
"""Run configuration: the terminal shows progress and errors, the event log has everything."""


class LineFailure(RuntimeError):  # noqa: N818
    """A run did not succeed; what was done before it stands."""


@dataclass(frozen=True)
class Line:
    """A study's definitions and house, and the status line of the terminal that its house tells."""

    definitions: dg.Definitions
    house: House
    status: Status

    def bring_up_to_date(self, assets: Sequence[str] = ("*",), partitions: Sequence[str] = ()) -> int:
        """Run whatever of these assets is due, in the order of the graph, and return the number of runs.

        assets: names, `+name` with everything upstream, `name+` downstream, or any of Dagster's asset selections.
        partitions: keys, or keys of one dimension; none means all. What no asset answers to is a LineFailure, and
        so is a failed run, because what comes after it would be made of something old.
        """
        graph = self.definitions.resolve_asset_graph()
        selected = frozenset(key for terms in assets for key in select(graph, terms))
        with open_instance(self.house.home) as instance:
            done = 0
            for run in due_runs(self.house, graph, selected, partitions):
                if not done:
                    self._execute(instance, Run(_sources(graph), None))
                self._execute(instance, run)
                done += 1
        return done

    def _execute(self, instance: dg.DagsterInstance, run: Run) -> None:
        names = ", ".join(key.to_user_string() for key in run.assets)
        where = run.partition or ""
        began = time.monotonic()
        self.status.update(f"{where} {names}")
        with self.status:
            job = self.definitions.resolve_implicit_global_asset_job_def()
            result = job.execute_in_process(
                instance=instance,
                asset_selection=list(run.assets),
                partition_key=run.partition,
                run_config=QUIET,
                raise_on_error=False,
            )
        if not result.success:
            raise LineFailure(f"{_failure(result)}\nWhat was done before stands; the same command goes on from here.")
        self.status.console.print(
            f"[green]✓[/] {time.monotonic() - began:6.1f} s  {where:<22} {names}", highlight=False
        )


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


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says of itself: each failed step with its innermost error."""
    lines = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error and error.cause:
            error = error.cause
        lines.append(f"{event.step_key}: {error.message.strip() if error else 'failed'}")
    failed_checks = [
        f"{check.asset_key.to_user_string()}: check {check.check_name} found {check.metadata}"
        for check in result.get_asset_check_evaluations()
        if not check.passed
    ]
    return "\n".join([*lines, *failed_checks]) or "the run failed; its log is in the Dagster UI"
