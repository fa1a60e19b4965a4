"""A worker process: `python -m ecg_pipeline.run_worker FD DAGSTER_HOME` executes Dagster runs.

It receives them through the socket FD from `orchestration.run_worker.RunWorker`, and ends when that process has ended,
even in the middle of a run.
"""

import os
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

import dagster as dg

from ecg_pipeline.definitions import build_definitions, build_workspace
from ecg_pipeline.orchestration.run_worker import execute
from ecg_pipeline.study import active_study


def main(fd: int, home: str) -> None:
    """Execute requested runs until the parent process has ended."""
    connection, requests = Connection(fd), SimpleQueue()
    threading.Thread(target=_listen, args=(connection, requests), daemon=True).start()
    workspace = build_workspace(active_study()).with_terminal_progress(lambda text: connection.send(("progress", text)))
    definitions = build_definitions(workspace)
    with dg.DagsterInstance.from_config(home) as instance:
        while True:
            run, config = requests.get()
            connection.send(("ended", execute(definitions, instance, run=run, config=config)))


def _listen(connection: Connection, requests: "SimpleQueue[Any]") -> None:
    try:
        while True:
            requests.put(connection.recv())
    except (EOFError, ConnectionError):
        os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
