"""The text that a GE cart prints on an ECG, from its fragments in a MUSE export.

Nothing that a person inserted is read, nor the diagnosis that a physician edited (`Diagnosis`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ecg_pipeline.ingest.formats.format import SourceText
from ecg_pipeline.ingest.formats.muse_statements import cart_fragments, patient_id, read_exports, site_name

LINE_ENDS = "ENDSLINE"
"""Flag of a fragment that ends a printed line; any other goes on in the next one."""

_PEOPLE = ("PatientDemographics", "TestDemographics", "Order")
_IDENTITIES = ("NAME", "ID", "BIRTH", "ACCOUNTNUMBER", "REQUISITIONNUMBER")
_PLACES = ("SITENAME", "LOCATIONNAME")


def muse_texts(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[SourceText]:
    """The cart's text of each export; see `format.TextReader`."""
    for name, root in read_exports(folder, files, skipped):
        yield SourceText(name, patient_id(root), _text(root), site_name(root), _identities(root))


def _text(root: etree._Element) -> str:
    """The fragments joined to lines, and those joined by blanks."""
    lines = [[]]
    for fragment, flags in cart_fragments(root):
        lines[-1].append(fragment.strip())
        if LINE_ENDS in flags:
            lines.append([])
    return " ".join(" ".join(line) for line in lines if line)


def _identities(root: etree._Element) -> tuple[str, ...]:
    """Names and numbers of the patient and of everybody who had to do with the ECG."""
    return tuple(
        (element.text or "").strip()
        for section in _PEOPLE
        for element in root.iterfind(f"{section}//*")
        if isinstance(element.tag, str) and _is_identity(element.tag.upper()) and (element.text or "").strip()
    )


def _is_identity(tag: str) -> bool:
    """Whether an element of this name, in capitals, names somebody."""
    return tag.endswith(_IDENTITIES) and tag not in _PLACES
