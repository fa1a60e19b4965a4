"""Digests of many files, each content read once, which an interrupted run need not compute again."""

import os
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TextIO

from ecg_pipeline.storage.files import sha256_file

_State = tuple[int, int, int, int, int]


class Hasher:
    """Computes SHA-256 digests of files, from several threads.

    Files that are hard links of one another are read once. journal: a file outside what is verified, to which every
    digest is appended with the file's device, inode, size and times of change; a later run takes digests from it for
    files that have not changed since. `finish` deletes it.
    """

    def __init__(self, journal: Path | None = None):
        self.journal = journal
        self._known: dict[_State, str] = {}
        self._lock = Lock()
        self._file: TextIO | None = None
        if journal:
            journal.parent.mkdir(parents=True, exist_ok=True)
            self._load(journal)
            self._file = journal.open("a", buffering=1)

    def digest(self, path: Path, state: os.stat_result) -> str:
        """The digest of a file. state: its `lstat`."""
        key = state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
        known = self._known.get(key)
        if known is None:
            known = sha256_file(path)
            with self._lock:
                self._known[key] = known
                if self._file:
                    self._file.write(f"{' '.join(map(str, key))} {known}\n")
        return known

    def finish(self) -> None:
        """Delete the journal: the next run computes everything again."""
        if self.journal and self._file:
            self._file.close()
            self.journal.unlink(missing_ok=True)

    def _load(self, journal: Path) -> None:
        if not journal.exists():
            return
        for line in journal.read_text().splitlines(keepends=True):
            # A killed run may have left half a line.
            with suppress(ValueError):
                *state, digest = line.split()
                if line.endswith("\n") and len(state) == 5:
                    dev, ino, size, mtime, ctime = map(int, state)
                    self._known[dev, ino, size, mtime, ctime] = digest
