"""Worker processes that make Dagster runs of the active study: started once, because their imports are dear.

Both ends stand here. The far end is `python -m ecg_pipeline.orchestration.run_worker FD`, which ends with the process
that started it, in the middle of a run, too.
"""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import dagster as dg

from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.resources import PROCESS
from ecg_pipeline.provenance.lease import process_json

Outcome = str | None
"""What a run says of its failure; None of a run that succeeded."""


def execute(definitions: dg.Definitions, instance: dg.DagsterInstance, run: Run, config: dict[str, Any]) -> Outcome:
    """Make one Dagster run in this process."""
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
    """The near end of a worker process, which makes one run at a time."""

    def __init__(self, home: str):
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno()), home]
            self.process = subprocess.Popen(command, pass_fds=[theirs.fileno()])  # noqa: S603
        self.connection = Connection(ours.detach())
        self.run: Run | None = None
        self.progress = ""

    def start(self, run: Run, config: dict[str, Any]) -> None:
        """Have a run made."""
        self.run = run
        self.connection.send((run, config))

    def hear(self) -> tuple[bool, Outcome]:
        """Read one message: whether the run has ended, and what it says of its failure."""
        try:
            kind, text = self.connection.recv()
        except EOFError:
            return True, f"the process that made it was ended from outside, with exit status {self.process.wait()}"
        if kind == "progress":
            self.progress = text
        return kind == "ended", text

    def end(self) -> None:
        """End the process, and whatever it is doing."""
        self.connection.close()
        self.process.wait()


def main(fd: int, home: str) -> None:
    """Make the runs that are asked for until the process that asks is gone."""
    connection, asked = Connection(fd), SimpleQueue()
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()
    definitions = _definitions(lambda text: connection.send(("progress", text)))
    with dg.DagsterInstance.from_config(home) as instance:
        while True:
            run, config = asked.get()
            connection.send(("ended", execute(definitions, instance, run, config)))


def _listen(connection: Connection, asked: "SimpleQueue[Any]") -> None:
    try:
        while True:
            asked.put(connection.recv())
    except (EOFError, ConnectionError):
        os._exit(0)


def _definitions(tell: Callable[[str], None]) -> dg.Definitions:
    from ecg_pipeline.definitions import build_definitions, build_house
    from ecg_pipeline.study import active_study

    return build_definitions(build_house(active_study()).telling(tell))


def _failure(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says of itself: each failed step with its innermost error."""
    lines = []
    for event in result.filter_events(lambda event: event.is_step_failure):
        error = event.step_failure_data.error
        while error and error.cause:
            error = error.cause
        lines.append(f"{event.step_key}: {error.message.strip() if error else 'failed'}")
    return "\n".join(lines) or "the run failed; its log is in the Dagster UI"


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
