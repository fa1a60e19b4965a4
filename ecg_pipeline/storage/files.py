"""Files that are whole or absent: atomic writes and content digests."""

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import polars as pl

ROW_GROUP = 8192
"""Rows of a table that are read together: few enough that the rows of one part are found in milliseconds."""


_process = uuid.uuid4().hex


def _after_fork() -> None:
    global _process
    _process = uuid.uuid4().hex


os.register_at_fork(after_in_child=_after_fork)


def temporary_beside(path: Path) -> Path:
    """A hidden name beside `path` that belongs to this process alone, among those of all hosts and containers."""
    # A process number would not do: two hosts, or two containers, that share a disk give the same ones.
    return path.with_name(f".{path.name}.{_process}.tmp")


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` fill a temporary sibling, flush it to disk, then rename it to `path`.

    A kill or a full disk at any moment leaves the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write indented JSON atomically; keys keep their order, NaN is an error."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_parquet(path: Path, table: pl.DataFrame | pl.LazyFrame) -> Path:
    """Write a table atomically. Of a lazy one no more is in memory than what is being written."""
    return write_atomically(
        path, lambda temporary: table.lazy().sink_parquet(temporary, compression="zstd", row_group_size=ROW_GROUP)
    )


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Give a file a second name, or copy it on a file system without hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def locked(path: Path, waits: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made where it is absent, until the block or the process ends.

    Whoever comes second waits, or gets a BlockingIOError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def is_file_name(text: str) -> bool:
    """Whether a text names a file or folder in a folder that is known, and cannot lead out of it."""
    return text not in ("", "..") and "\0" not in text and PurePath(text).name == text


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        # Blocks so small that the allocator keeps their memory: fresh pages cost more than the reading.
        while block := file.read(2**16):
            digest.update(block)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form: sorted keys, no spaces. Anything without stable bytes raises."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def folder_digests(folder: Path) -> dict[str, str]:
    """Map each file below `folder` (posix path relative to it, hidden files left out) to its SHA-256."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {name.as_posix(): sha256_file(folder / name) for name in names if not any(p[0] == "." for p in name.parts)}
