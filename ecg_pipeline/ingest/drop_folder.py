"""The folder that a hospital drops its files into, or that holds a data set, and the listing of its files.

A listing is a table with one row per file: `name` relative to the folder, `size` and `mtime_ns`, in the order of the
names. A run lists a folder once; version, waveforms and labels all come from that one listing.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import polars as pl

from ecg_pipeline.ingest.checks import check_file
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.rejects import Rejected
from ecg_pipeline.ingest.withdrawals import NOBODY, Withdrawals

Patients = Literal["private", "public", "synthetic"]

LISTING_SCHEMA = {"name": pl.String, "size": pl.Int64, "mtime_ns": pl.Int64}
RECENT_NS = 3600 * 10**9
"""A file that changed longer ago than this is not checked a second time; clocks of two hosts differ by less."""

MEMBER = "#"
"""What separates the name of a file of many ECGs from that of one of them."""

_ROWS = 2**16
_LATEST_NS = 2**62
"""Times beyond the year 2116, which some file systems can hold, count as this one."""
_ESCAPED = re.compile(r"\\(\\|x[0-9a-f]{2})")


class UnsettledError(Exception):
    """A table is not among the settled files of its folder: it is still being written."""


@dataclass(frozen=True)
class DropFolder:
    """Where a site's files are and how to read them.

    format: a name in `FORMATS`.
    site_names: the MUSE `SiteName`s that belong to this site; empty accepts any.
    mrn_system: name of the system of patient identifiers; the same identifier in one system is the same patient.
    label_tables: CSV files in the folder that hold labels, not ECGs.
    patients: file names of `private` ones are not stored either, only a keyed digest.
    withdrawals: patients whose files are not used.
    """

    site: str
    path: Path
    format: str
    site_names: tuple[str, ...] = ()
    mrn_system: str = ""
    label_tables: tuple[str, ...] = ()
    patients: Patients = "private"
    withdrawals: Withdrawals = NOBODY

    @property
    def private(self) -> bool:
        """Whether the patients are private, so that a file's name may identify one."""
        return self.patients == "private"

    def reading_rules(self) -> dict[str, Any]:
        """All settings that affect how a file is read, as JSON; the path is not one of them."""
        return {
            "site": self.site,
            "format": self.format,
            "patients": self.patients,
            "site_names": list(self.site_names),
            "mrn_system": self.mrn_system,
            "label_tables": list(self.label_tables),
        }

    def ecg_files(self, listing: pl.DataFrame) -> pl.DataFrame:
        """The rows of a listing that should each hold ECGs: neither label tables nor the format's own tables."""
        ecg_format = FORMATS[self.format]
        tables = {PurePosixPath(name).as_posix() for name in self.label_tables}
        tables |= {table.name for table in ecg_format.tables}
        is_ecg = (name not in tables and ecg_format.is_ecg_file(name) for name in listing["name"])
        return listing.filter(pl.Series(is_ecg, dtype=pl.Boolean))

    def ecgs(self, listing: pl.DataFrame) -> pl.DataFrame:
        """One row per ECG of a listing: its files that should be ECGs, and of a file of many ECGs a row for each."""
        files = self.ecg_files(listing)
        if FORMATS[self.format].members is None:
            return files
        return files.with_columns(name=pl.Series(map(self.ecg_names, files["name"]), dtype=pl.List(pl.String))).explode(
            "name"
        )

    def ecg_names(self, name: str) -> list[str]:
        """The names of the ECGs in a listed file: `file#ecg` in a file of many, else the file's own. A file that cannot
        be read has its own name, under which it becomes a reject.
        """
        members, path = FORMATS[self.format].members, self.file(name)
        if members is None:
            return [name]
        try:
            check_file(path, self.path, inf)
            return [f"{name}{MEMBER}{member}" for member in members(path)] or [name]
        except (Rejected, OSError):
            return [name]

    def place(self, name: str) -> tuple[Path, str | None]:
        """Where an ECG of `ecgs` is: the path of its file, and which ECG it is, if the file holds many."""
        ecg_format = FORMATS[self.format]
        if ecg_format.members is None or ecg_format.is_ecg_file(name):
            return self.file(name), None
        file, _, member = name.rpartition(MEMBER)
        return self.file(file), member

    def file(self, name: str) -> Path:
        """Path of a file, by its name in a listing."""
        return self.path / _ESCAPED.sub(
            lambda escaped: "\\" if escaped[1] == "\\" else chr(0xDC00 + int(escaped[1][1:], 16)), name
        )

    def table_file(self, listing: pl.DataFrame, name: str) -> Path:
        """Path of a label table, or of one of the format's own tables. FileNotFoundError if it does not exist,
        UnsettledError if it is not listed because it is still being written.
        """
        path = self.path / name
        if not path.is_file():
            raise FileNotFoundError(f"site {self.site}: there is no table {path}")
        within = PurePosixPath(name)
        if ".." in within.parts or within.is_absolute():
            return path
        if listing.filter(pl.col("name") == within.as_posix()).is_empty():
            raise UnsettledError(f"site {self.site}: {path} is still being written. Run again when it is complete.")
        return path


def list_files(drop: DropFolder) -> pl.DataFrame:
    """List every file below a folder that is not hidden; columns as in `LISTING_SCHEMA`, in the order of the names.

    Links are listed, never followed. Bytes of a name that are not UTF-8 become `\\xNN`, and backslashes are doubled.
    Memory is that of the table. A missing folder is a FileNotFoundError.
    """
    return _listing(drop).drop("ctime_ns")


def settled_files(drop: DropFolder, wait_s: float, sleep: Callable[[float], object] = time.sleep) -> pl.DataFrame:
    """A listing without the files that are still being written: those that have changed after a wait of `wait_s`.

    Only files that changed in the last hour are checked again; without any, or if `wait_s` is 0, there is no wait.
    An ECG of several files is left out as long as any of them is being written.
    """
    first = _listing(drop)
    recent = first.filter(_is_recent(time.time_ns())) if wait_s > 0 else first.clear()
    if recent.is_empty():
        return first.drop("ctime_ns")
    sleep(wait_s)
    unsettled = [
        name
        for name, size, mtime_ns in recent.select("name", "size", "mtime_ns").iter_rows()
        if file_state(drop.file(name)) != (size, mtime_ns)
    ]
    ecg = pl.col("name") if FORMATS[drop.format].signal_files is None else without_suffix()
    waiting = pl.DataFrame({"name": unsettled}, schema={"name": pl.String}).select(ecg).to_series()
    return first.drop("ctime_ns").filter(~ecg.is_in(waiting.implode()))


def listing_version(drop: DropFolder, listing: pl.DataFrame) -> str:
    """Digest (SHA-256) of the files of a listing, of the site's reading rules, and of withdrawals that concern it."""
    digest = hashlib.sha256(json.dumps(drop.reading_rules(), sort_keys=True).encode())
    for row in listing.select(*LISTING_SCHEMA).iter_rows():
        digest.update(json.dumps(row).encode())
    if drop.withdrawals.here:
        digest.update(json.dumps(sorted(drop.withdrawals.here)).encode())
    return digest.hexdigest()


def reason_to_confirm(drop: DropFolder, listing: pl.DataFrame | None, last_count: int) -> str | None:
    """Why a person must confirm a listing before it is used, as a sentence; None if nobody needs to.

    listing: None if the folder does not exist. last_count: ECG files in the last listing, 0 if there was none. An
    unmounted disk shows as a missing or empty folder, an incomplete copy as one that has lost most of its files.
    """
    if listing is None:
        return f"site {drop.site}: there is no folder {drop.path}. Is its disk mounted? Run again when it is."
    count = drop.ecg_files(listing).height
    if count and 2 * count >= last_count:
        return None
    holds = f"holds {count:,} ECG files" if count else "holds no ECG files"
    last = f", the last listing had {last_count:,}" if last_count else ""
    return (
        f"site {drop.site}: {drop.path} {holds}{last}. Is its disk mounted and complete? If the "
        "folder is right, confirm it once: run `waveform_store` of this site with the run config "
        "`accept_fewer_files: true`, or "
        f"`ecg-pipeline materialize waveform_store --partition {drop.site} --accept-fewer-files`."
    )


def file_state(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file or link, as in a listing; None if it is gone."""
    try:
        return _state(path.lstat())[:2]
    except (FileNotFoundError, NotADirectoryError):
        return None


def file_name(drop: DropFolder, path: Path) -> str | None:
    """The name of a file as a listing gives it; None if it is not below the folder. The file need not exist."""
    absolute = path.parent.resolve() / path.name
    if not absolute.is_relative_to(drop.path.resolve()):
        return None
    return _escaped(absolute.relative_to(drop.path.resolve()).as_posix())


def without_suffix() -> pl.Expr:
    """Names without their suffix, which the files of one ECG share."""
    return pl.col("name").str.replace(r"\.[^./]*$", "")


def _listing(drop: DropFolder) -> pl.DataFrame:
    """A listing with `ctime_ns`, which is recent for a copied file even if its `mtime_ns` is old."""
    if not drop.path.is_dir():
        raise FileNotFoundError(f"site {drop.site}: there is no folder {drop.path}")
    schema = {**LISTING_SCHEMA, "ctime_ns": pl.Int64}
    rows = ((_escaped(name), *_state(state)) for name, state in _files(drop.path))
    tables = [pl.DataFrame(schema=schema)]
    while some := list(islice(rows, _ROWS)):
        tables.append(pl.DataFrame(some, schema=schema, orient="row"))
    return pl.concat(tables)


def _is_recent(now_ns: int) -> pl.Expr:
    since, until = now_ns - RECENT_NS, now_ns + RECENT_NS
    return pl.col("mtime_ns").is_between(since, until) | pl.col("ctime_ns").is_between(since, until)


def _state(state: os.stat_result) -> tuple[int, int, int]:
    times = (max(-_LATEST_NS, min(ns, _LATEST_NS)) for ns in (state.st_mtime_ns, state.st_ctime_ns))
    return state.st_size, *times  # pyright: ignore[reportReturnType]


def _escaped(name: str) -> str:
    """A name as valid UTF-8, with other bytes and backslashes escaped; `DropFolder.file` reverses it."""
    return os.fsencode(name.replace("\\", "\\\\")).decode(errors="backslashreplace")


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and link below a folder that is not hidden, in the order of their names; linked folders are not
    entered, and files that are deleted meanwhile are left out.

    No more names are in memory than those of one folder and of the folders above it.
    """
    above = [("", iter(_names(folder)))]
    while above:
        place, names = above[-1]
        name = next(names, None)
        if name is None:
            above.pop()
            continue
        try:
            if name.endswith("/"):
                above.append((place + name, iter(_names(folder / place / name))))
            else:
                yield place + name, (folder / place / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue


def _names(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if not entry.name.startswith(".")
        )
