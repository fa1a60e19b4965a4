"""What a GE cart states about an ECG: fragments of its text, as far as they are in a closed list of names.

A MUSE export holds the cart's statements (`OriginalDiagnosis`) and those that a physician confirmed (`Diagnosis`), in
fragments of free text, some with names of people. So a text is never stored: only a name of the list, which are the
labels of ECGFounder in their order.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ecg_pipeline.ingest.checks import check_file
from ecg_pipeline.ingest.formats.format import EcgFile, Statement
from ecg_pipeline.ingest.formats.muse_xml import read_export
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected
from ecg_pipeline.statements import statement_names

PHYSICIAN = "USERINSERT"
"""Flag of a statement that a person inserted: it is not the cart's."""


def muse_statements(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
    """The cart's statements in exports, each name once an ECG; see `format.StatementReader`."""
    for name, root in read_exports(folder, files, skipped):
        for code in _stated(root):
            yield Statement(name, patient_id(root), code, 1.0, site_name(root))


def read_exports(
    folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]
) -> Iterator[tuple[str, etree._Element]]:
    """The name and the root element of every export that can be read; the arguments are a `StatementReader`'s."""
    for name, path in files:
        try:
            check_file(path, folder, EcgFile.largest_mb)
            root = read_export(path.read_bytes())[0]
        except (Rejected, OSError):
            # The waveform store rejects the same file with its reason.
            skipped["export that cannot be read"] += 1
            continue
        yield name, root


def patient_id(root: etree._Element) -> str | None:
    """The patient's identifier in an export."""
    return known_id(root.findtext("PatientDemographics/PatientID"))


def site_name(root: etree._Element) -> str | None:
    """The name of the hospital in an export."""
    return (root.findtext("TestDemographics/SiteName") or "").strip() or None


def cart_fragments(root: etree._Element) -> Iterator[tuple[str, list[str]]]:
    """The cart's own fragments of text in order, each with its flags, upper-case; none that a person inserted."""
    for statement in root.iterfind("OriginalDiagnosis/DiagnosisStatement"):
        flags = [(flag.text or "").strip().upper() for flag in statement.iterfind("StmtFlag")]
        if PHYSICIAN not in flags:
            yield statement.findtext("StmtText") or "", flags


def _stated(root: etree._Element) -> list[str]:
    """The names of the list that the cart stated, each once."""
    found = dict.fromkeys(listed_statement(text) for text, _ in cart_fragments(root))
    return [name for name in found if name]


def listed_statement(text: str | None) -> str | None:
    """The name in the closed list that a cart's text is, however it is written; None if it is in no such list."""
    return _by_text().get(_normalised(text))


@cache
def _by_text() -> dict[str, str]:
    return {_normalised(name): name for name in statement_names()}


def _normalised(text: str | None) -> str:
    """A text as the list writes it: upper-case, A-V as AV, without spaces to spare."""
    return " ".join((text or "").upper().replace("A-V", "AV").split())
