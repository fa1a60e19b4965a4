"""The interface of a file format: how a file is read, and the tables, statements and texts that come with the ECGs."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ecg_pipeline.ecg import Ecg


@dataclass(frozen=True)
class EcgFile:
    """A file to read: a regular file inside its drop folder.

    largest_mb: size that neither it nor a file that it refers to may exceed; in a file of many ECGs, one ECG.
    member: the ECG to read, of a file of many.
    """

    path: Path
    folder: Path
    largest_mb: float = 32.0
    member: str | None = None


class Reader(Protocol):
    """Reads one file, or one ECG of a file of many. Whether it can be used is decided later, by `checks.check_ecg`.

    A reader takes the leads from `checks.standard_leads` and the rate from `checks.whole_hz`; a count of
    `checks.INVALID_SAMPLE` is a sample that was not recorded. For a file that cannot be read it raises `Rejected`, and
    no other exception.
    """

    def __call__(self, file: EcgFile) -> Ecg:
        """Read the ECG of `file`."""
        ...


@dataclass(frozen=True)
class Statement:
    """A coded statement about one ECG.

    file: the ECG by its name in `DropFolder.ecgs`: its file, or one ECG of a file of many. patient_id: the data set's
    own identifier, None where unknown; it does not leave `ingest`. value: likelihood in the data set's own unit, 1 if
    it gives none. site_name: the hospital that the file names, if its format does (`Format.names_site`).
    """

    file: str
    patient_id: str | None
    code: str
    value: float
    site_name: str | None = None


class StatementReader(Protocol):
    """Reads the statements about all ECGs of a folder."""

    def __call__(self, folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
        """Read the statements of a folder.

        files: the ECGs by their names in `DropFolder.ecgs`, each with its file, which `checks.check_file` has not seen.
        skipped: counter by reason, to increase for rows and files that cannot be used. They do not raise.
        """
        ...


@dataclass(frozen=True)
class Statements:
    """The statements that come with the ECGs of a format.

    system: the vocabulary of their codes. codes: all codes that it has; None if the list is not closed.
    equal: codes that `read` replaces by another one of the same meaning.
    """

    system: str
    read: StatementReader
    codes: Callable[[], Collection[str]] | None = None
    equal: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceText:
    """What was written about one ECG, as its source has it, without what is known to have been typed by a person.

    file, patient_id, site_name: as of a `Statement`. identities: values beside the text that name people, such as the
    patient and those who read the ECG; none of them leaves `ingest` and `texts`.
    """

    file: str
    patient_id: str | None
    text: str
    site_name: str | None = None
    identities: tuple[str, ...] = ()


class TextReader(Protocol):
    """Reads the texts about all ECGs of a folder."""

    def __call__(self, folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[SourceText]:
        """Read the texts of a folder; the arguments are those of a `StatementReader`."""
        ...


@dataclass(frozen=True)
class Texts:
    """The texts that come with the ECGs of a format. source: who wrote them, in a few words."""

    source: str
    read: TextReader


@dataclass(frozen=True)
class Table:
    """A table that the folder must contain: each ECG is read together with its row of it.

    check: called with the folder; raises an error that names the table if it is missing or malformed.
    """

    name: str
    check: Callable[[Path], object]


@dataclass(frozen=True)
class Format:
    """One file format, or one data set's use of it. The defaults suit one self-contained file per ECG.

    is_ecg_file: whether a file of this name should be an ECG; called with names of listed files.
    signal_files: names of the files beside an ECG's file that hold its samples, as a rule under its name with another
    suffix; None if the file holds them itself.
    members: the names of the ECGs in a file of many; raises `Rejected` if it cannot be read. None if a file is one ECG.
    statements: by system, each system once.
    dated: whether files say when the ECG was recorded. names_site: whether they name the hospital.
    has_folds: whether the data set assigns ECGs to folds.
    """

    read: Reader
    is_ecg_file: Callable[[str], bool]
    signal_files: Callable[[Path], Collection[str]] | None = None
    members: Callable[[Path], Collection[str]] | None = None
    tables: tuple[Table, ...] = ()
    statements: tuple[Statements, ...] = ()
    texts: Texts | None = None
    dated: bool = True
    names_site: bool = False
    has_folds: bool = False


def every_file(name: str) -> bool:
    """`Format.is_ecg_file` of a format whose files may have any name: all but the site's tables."""
    return True
