"""Worker processes that execute Dagster runs of the active study: long-lived, because their imports are slow.

This is the parent's side; `ecg_pipeline.run_worker` is the worker process, which ends with its parent.
"""

import socket
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

import dagster as dg

from ecg_pipeline.orchestration import without_preview_warnings
from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.resources import PROCESS
from ecg_pipeline.provenance.lease import process_json

Outcome = str | None
"""Failure message of a run; None if it succeeded."""


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, *, run: Run, config: dict[str, Any]) -> Outcome:
    """Execute one Dagster run in this process."""
    with without_preview_warnings():
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=list(run.assets),
            partition_key=run.partition,
            run_config=config,
            tags={PROCESS: process_json()},
            raise_on_error=False,
        )
    return None if result.success else _failure(result)


class RunWorker:
    """Handle of a worker process, which executes one run at a time."""

    def __init__(self, home: str):
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "ecg_pipeline.run_worker", str(theirs.fileno()), home]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        self.connection = Connection(ours.detach())
        self.run: Run | None = None
        self.progress = ""

    def start(self, run: Run, config: dict[str, Any]) -> None:
        """Send a run to the process."""
        self.run = run
        self.connection.send((run, config))

    def receive(self) -> tuple[bool, Outcome]:
        """Receive one message: whether the run has ended, and its failure message."""
        try:
            kind, text = self.connection.recv()
        except EOFError:
            return True, f"its worker process was killed, with exit status {self.process.wait()}"
        if kind == "progress":
            self.progress = text
        return kind == "ended", text

    def end(self) -> None:
        """End the process, and the run that it executes."""
        self.connection.close()
        self.process.wait()


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """Failure message of a run: each failed step with its innermost error."""
    lines = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error and error.cause:
            error = error.cause
        lines.append(f"{event.step_key}: {error.message.strip() if error else 'failed'}")
    return "\n".join(lines) or "the run failed; its log is in the Dagster UI"
