"""Messages of a process that Dagster started through Pipes, read from a file while the process writes it."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dagster as dg
from dagster_pipes import PipesDefaultMessageWriter

from ecg_pipeline.ecg import Progress

SECONDS = 0.5
"""Between two looks into the file."""

Message = Mapping[str, Any]


class MessageReader(dg.PipesMessageReader):
    """Reads a trainer's messages. Dagster's own reader fails on a line that is written while it reads.

    result: what the trainer reported of itself. failure: the exception that ended it, in words.
    """

    def __init__(self, progress: Progress):
        self.progress = progress
        self.result: dict[str, Any] = {}
        self.failure: str | None = None

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        """Pass messages to Dagster's handler, except progress and results."""

        def on_message(message: Message) -> None:
            params = message.get("params") or {}
            if message["method"] == "closed" and (error := params.get("exception")):
                self.failure = f"{error['name']}: {error['message'].strip()}"
            if message["method"] != "report_custom_message":
                handler.handle_message(message)
            elif "done" in params["payload"]:
                self.progress(params["payload"]["done"], params["payload"]["total"])
            else:
                self.result |= params["payload"]

        with tempfile.TemporaryDirectory() as folder, follow(Path(folder) / "messages.jsonl", on_message) as path:
            yield {
                PipesDefaultMessageWriter.FILE_PATH_KEY: str(path),
                PipesDefaultMessageWriter.INCLUDE_STDIO_IN_MESSAGES_KEY: False,
            }

    @property
    def expected_writer_count(self) -> int:
        """One process reports. Dagster's default is the same, but warns that this property is in preview."""
        return 1

    def no_messages_debug_text(self) -> str:
        """Dagster's message if the trainer sent nothing."""
        return "The trainer ended before it sent anything; its log is that of this step."


@contextmanager
def follow(path: Path, on_message: Callable[[Message], None]) -> Iterator[Path]:
    """Call `on_message` with each line of a new file, JSON, once it is complete; at the end, with all that are."""
    path.touch()
    ended = Event()
    thread = Thread(target=_read_lines, args=(path, on_message, ended), daemon=True)
    thread.start()
    try:
        yield path
    finally:
        ended.set()
        thread.join()


def _read_lines(path: Path, on_message: Callable[[Message], None], ended: Event) -> None:
    begun = b""
    with path.open("rb") as file:
        while True:
            is_last = ended.is_set()
            *lines, begun = (begun + file.read()).split(b"\n")
            for line in lines:
                on_message(json.loads(line))
            if is_last:
                return
            ended.wait(SECONDS)
