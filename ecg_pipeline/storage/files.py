"""Atomic file writes, file locks and content digests."""

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
"""Rows of a Parquet row group, the unit that is read; small, so that one shard's rows are read in milliseconds."""

_process = uuid.uuid4().hex


def _after_fork() -> None:
    global _process
    _process = uuid.uuid4().hex


os.register_at_fork(after_in_child=_after_fork)


def temporary_beside(path: Path) -> Path:
    """A hidden path beside `path`, unique to this process."""
    # A process id is not unique: hosts and containers that share a disk have the same ones.
    return path.with_name(f".{path.name}.{_process}.tmp")


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let `write` write a temporary file beside `path`, flush it to disk, and rename it to `path`.

    If the process is killed or the disk is full, `path` is the complete old file or the complete new one.
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
    """Write indented JSON atomically. Keys keep their order; NaN is a ValueError."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_parquet(path: Path, table: pl.DataFrame | pl.LazyFrame) -> Path:
    """Write a table atomically; a lazy one is streamed."""
    return write_atomically(
        path, lambda temporary: table.lazy().sink_parquet(temporary, compression="zstd", row_group_size=ROW_GROUP)
    )


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Hard-link a file, or copy it on a file system without hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold an exclusive lock on a file, created if absent, until the block or the process ends.

    If another process holds it: wait for it, or raise BlockingIOError if `wait` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def is_file_name(text: str) -> bool:
    """Whether a text is the name of a file or folder without any path, so that it cannot point outside its folder."""
    return text not in ("", "..") and "\0" not in text and PurePath(text).name == text


def sha256_bytes(content: bytes) -> str:
    """Hex SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        # Small blocks, whose memory the allocator reuses: fresh pages would cost more than reading.
        while block := file.read(2**16):
            digest.update(block)
    return digest.hexdigest()


def digest_json(value: Any) -> str:
    """Hex SHA-256 of a JSON value in canonical form: sorted keys, no spaces. NaN or a value that is not JSON raises."""
    return sha256_bytes(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def folder_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file below `folder`, by its POSIX path relative to it. Hidden files are left out."""
    names = (path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file())
    return {name.as_posix(): sha256_file(folder / name) for name in names if not any(p[0] == "." for p in name.parts)}
