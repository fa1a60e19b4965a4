"""What the pipeline has to know of a file format: how one of its files is read, and what comes with the ECGs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ecg_pipeline.ecg import Ecg


@dataclass(frozen=True)
class EcgFile:
    """A file to read: a regular file inside its drop folder.

    largest_mb: size that neither it nor a file that it refers to may exceed.
    """

    path: Path
    folder: Path
    largest_mb: float = 32.0


class Reader(Protocol):
    """Reads one file as one ECG, and does no more than that: `checks.check_ecg` says whether the ECG can be used.

    Leads are those of `checks.standard_leads`, and the rate is one of `checks.whole_hz`. A count of
    `checks.INVALID_SAMPLE` is a sample that was not recorded. Raises `Rejected` for a file that cannot be read, and
    nothing else whatever the file holds.
    """

    def __call__(self, file: EcgFile) -> Ecg:
        """Read the ECG of `file`."""
        ...


@dataclass(frozen=True)
class Statement:
    """A coded statement about one ECG.

    file: the ECG's file, as a listing names it. patient_id: the data set's own identifier, None where unknown; it does
    not leave `ingest`. value: likelihood in the data set's own unit, 1 where it gives none.
    """

    file: str
    patient_id: str | None
    code: str
    value: float


class StatementReader(Protocol):
    """Reads the statements about all ECGs of a folder."""

    def __call__(self, folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
        """Read the statements of a folder.

        files: the ECG files, each with its name in the listing; not yet checked with `checks.check_file`.
        skipped: counts, by why, of the rows and files that cannot be used. They do not raise.
        """
        ...


@dataclass(frozen=True)
class Statements:
    """The statements that come with the ECGs of a format. system: the vocabulary of their codes."""

    system: str
    read: StatementReader


@dataclass(frozen=True)
class Table:
    """A table that the folder must hold because every ECG of it is read with one of its rows.

    check: called with the folder; raises an error that names the table where it is missing or is not this table.
    """

    name: str
    check: Callable[[Path], object]


@dataclass(frozen=True)
class Format:
    """One file format, or one data set's use of it. The defaults are those of one self-contained file an ECG.

    is_ecg_file: whether a file of this name should be an ECG; called with names of listed files.
    signal_files: names of the files beside an ECG's file that hold its samples; None where it holds them itself. The
    files of one ECG then share their path but for the suffix.
    dated: whether files say when the ECG was recorded. names_site: whether they name the hospital.
    has_folds: whether each ECG belongs to a fold of the data set's own.
    """

    read: Reader
    is_ecg_file: Callable[[str], bool]
    signal_files: Callable[[Path], Collection[str]] | None = None
    tables: tuple[Table, ...] = ()
    statements: Statements | None = None
    dated: bool = True
    names_site: bool = False
    has_folds: bool = False


def every_file(name: str) -> bool:
    """`Format.is_ecg_file` of a format whose files may have any name: all but the site's tables."""
    return True
