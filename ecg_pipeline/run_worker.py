"""A worker process: `python -m ecg_pipeline.run_worker FD DAGSTER_HOME` makes Dagster runs that it is asked for.

It is asked through the socket FD by `orchestration.run_worker.RunWorker`, and ends when that process is gone, in the
middle of a run, too.
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
    """Make the requested runs until the requesting process is gone."""
    connection, asked = Connection(fd), SimpleQueue()
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()
    workspace = build_workspace(active_study()).with_terminal_progress(lambda text: connection.send(("progress", text)))
    definitions = build_definitions(workspace)
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


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
