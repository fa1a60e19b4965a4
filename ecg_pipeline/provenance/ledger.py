"""The ledger of a home: one line for every output made, checked, withdrawn or purged, in order, chained by digests.

Each line holds the SHA-256 of the line before it, so a line that is changed, taken out or put in breaks the chain. Who
computes the whole chain again leaves no break; a signed checkpoint of its head, kept elsewhere, shows that, too.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ecg_pipeline.provenance.lease import hold
from ecg_pipeline.storage.files import sha256_bytes

START = "0" * 64
"""What the first entry holds in place of the digest of the entry before it."""

_BLOCK = 2**16


class Kind(StrEnum):
    """What an entry states. `promoted` and `rolled_back` are reserved: nothing writes them yet."""

    MADE = "made"
    CHECKED = "checked"
    WITHDRAWN = "withdrawn"
    PURGED = "purged"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


@dataclass(frozen=True)
class Entry:
    """One line of the ledger.

    number: from 1. previous: digest of the entry before it. facts: what the entry states, by its kind. digest: SHA-256
    of the line.
    """

    number: int
    at: str
    kind: str
    facts: dict[str, Any]
    previous: str
    digest: str


@dataclass(frozen=True)
class Head:
    """State of a ledger: its number of entries, and the digest of the last one."""

    entries: int
    digest: str


@dataclass(frozen=True)
class Ledger:
    """The ledger in a file, which is created by the first entry."""

    path: Path

    def append(self, *entries: tuple[Kind, Mapping[str, Any]]) -> Head:
        """Append entries in one write, flushed to disk. Several processes and hosts may append at the same time.

        What a killed writer left of a line is cut off first: it never was an entry.
        """
        with hold(self.path.parent):
            head = self._cut_torn_line()
            lines = []
            for kind, facts in entries:
                line = _line(head, kind, facts)
                lines.append(line)
                head = Head(head.entries + 1, sha256_bytes(line))
            with self.path.open("ab") as file:
                file.write(b"".join(line + b"\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
        return head

    def head(self) -> Head:
        """The number of entries and the digest of the last one, by the last line alone."""
        line = self._last_line()
        return Head(json.loads(line)["number"], sha256_bytes(line)) if line else Head(0, START)

    def entries(self) -> Iterator[Entry]:
        """Every entry in order, read line by line. A ValueError if a line is no entry."""
        for number, line in enumerate(self._lines(), start=1):
            yield _entry(line, number)

    def readable_entries(self) -> Iterator[Entry]:
        """The entries up to the first line that is none."""
        with suppress(ValueError):
            yield from self.entries()

    def problems(self) -> Iterator[str]:
        """A sentence for each line that is no entry or does not follow from the line before it."""
        previous = START
        for number, line in enumerate(self._lines(), start=1):
            try:
                entry = _entry(line, number)
            except ValueError as error:
                yield str(error)
                return
            if entry.previous != previous:
                yield f"entry {number} does not follow entry {number - 1}: entries were changed, taken out or put in"
            if entry.number != number:
                yield f"entry {number} states the number {entry.number}"
            previous = entry.digest

    def digest_at(self, entries: int) -> str | None:
        """The digest of the last of the first `entries` entries; None if there are fewer."""
        if entries == 0:
            return START
        return next((entry.digest for entry in self.entries() if entry.number == entries), None)

    def _lines(self) -> Iterator[bytes]:
        if self.path.exists():
            with self.path.open("rb") as file:
                yield from (line[:-1] for line in file if line.endswith(b"\n"))

    def _last_line(self) -> bytes:
        """The last whole line, without its end; empty if there is none."""
        if not self.path.exists():
            return b""
        tail, end = b"", self.path.stat().st_size
        with self.path.open("rb") as file:
            while end and tail.count(b"\n") < 2:
                begin = max(0, end - _BLOCK)
                file.seek(begin)
                tail = file.read(end - begin) + tail
                end = begin
        lines = tail.split(b"\n")[:-1]
        return lines[-1] if lines else b""

    def _cut_torn_line(self) -> Head:
        if self.path.exists():
            with self.path.open("rb+") as file:
                end = _end_of_last_line(file)
                file.truncate(end)
        return self.head()


def _end_of_last_line(file: Any) -> int:
    """Position after the last line that ends with a line break."""
    at = file.seek(0, os.SEEK_END)
    while at:
        begin = max(0, at - _BLOCK)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        at = begin
    return 0


def _line(head: Head, kind: Kind, facts: Mapping[str, Any]) -> bytes:
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    content = {"number": head.entries + 1, "at": now, "kind": kind, "previous": head.digest, "facts": facts}
    return json.dumps(content, separators=(",", ":"), allow_nan=False).encode()


def _entry(line: bytes, number: int) -> Entry:
    try:
        content = json.loads(line)
        return Entry(**content, digest=sha256_bytes(line))
    except (ValueError, TypeError):
        raise ValueError(f"entry {number} of the ledger is not an entry") from None
