"""The folder that a hospital drops its files into, or that holds a data set: what is in it, safely listed."""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["muse_xml", "ptb_xl", "mimic_iv_ecg", "cinc"]


@dataclass(frozen=True)
class DropFolder:
    """Where a site's files lie and how they are to be read.

    site_names: the MUSE `SiteName`s that belong to this site; none given accepts any.
    mrn_system: which numbering of patients the identifiers belong to.
    label_tables: CSV files in the folder that hold labels, not ECGs.
    """

    site: str
    path: Path
    format: Format
    site_names: tuple[str, ...] = ()
    mrn_system: str = ""
    label_tables: tuple[str, ...] = ()

    def ecg_files(self) -> Iterator[Path]:
        """The files that should each be an ECG, in the order of their names. Links are listed, never followed.

        In a WFDB data set that is every header; a MUSE folder should hold nothing but exports and label tables.
        """
        files = _regular_files_and_links(self.path)
        if self.format == "muse_xml":
            return (path for path in files if self.name(path) not in self.label_tables)
        return (path for path in files if path.suffix == ".hea")

    def name(self, path: Path) -> str:
        """A file's name relative to the folder, the same on every machine."""
        return path.as_posix().removeprefix(f"{self.path.as_posix()}/")


def manifest_digest(drop: DropFolder) -> str:
    """The version of a folder's content: a digest over name, size and time of change of each of its files.

    A missing folder is a FileNotFoundError.
    """
    if not drop.path.is_dir():
        raise FileNotFoundError(f"site {drop.site}: there is no folder {drop.path}")
    digest = hashlib.sha256()
    for path in _regular_files_and_links(drop.path):
        state = path.lstat()
        digest.update(json.dumps([drop.name(path), state.st_size, state.st_mtime_ns]).encode())
    return digest.hexdigest()[:16]


def leaves_folder(path: Path, folder: Path) -> bool:
    """Whether a path, with all links followed, points out of the folder."""
    return not path.resolve().is_relative_to(folder.resolve())


def _regular_files_and_links(folder: Path) -> Iterator[Path]:
    """Every file below a folder that is not hidden, in the order of their names; linked folders are not entered.

    No more names are in memory than those of one folder and of the folders above it.
    """
    with os.scandir(folder) as entries:
        names = [
            f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name
            for entry in entries
            if not entry.name.startswith(".")
        ]
    for name in sorted(names):
        if name.endswith("/"):
            yield from _regular_files_and_links(folder / name)
        else:
            yield folder / name
