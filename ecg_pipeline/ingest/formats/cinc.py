"""Data of the PhysioNet/CinC challenges: WFDB records (`.hea`, `.mat`) with demographics and diagnoses in comments.

There are no patient identifiers in these data sets: each record is a patient of its own. Diagnoses are SNOMED CT codes;
in CPSC 2018, which became part of the challenge of 2020, they are nine texts.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.checks import check_file
from ecg_pipeline.ingest.formats.format import EcgFile, Statement
from ecg_pipeline.ingest.formats.values import to_float
from ecg_pipeline.ingest.formats.wfdb import MAX_HEADER_BYTES, read_header, read_wfdb
from ecg_pipeline.ingest.rejects import Rejected

CPSC_TEXTS = {
    "Normal": "426783006",
    "AF": "164889003",
    "I-AVB": "270492004",
    "LBBB": "164909002",
    "RBBB": "59118001",
    "PAC": "284470004",
    "PVC": "427172004",
    "STD": "429622005",
    "STE": "164931005",
}
"""SNOMED CT codes of CPSC 2018's texts, as the challenge of 2020 translated them."""

EQUAL_CODES = {
    "713427006": "59118001",
    "733534002": "164909002",
    "63593006": "284470004",
    "17338001": "427172004",
    "164884008": "427172004",
}
"""Codes that are read as another. The challenge of 2021 scores four pairs as one diagnosis: complete right and right,
complete left and left bundle branch block; supraventricular premature beats and premature atrial contraction;
ventricular premature beats and premature ventricular contractions. The fifth code is ventricular ectopics, which the
challenge wrote for CPSC 2018's PVC.
"""


def read_cinc(file: EcgFile) -> Ecg:
    """Read a challenge record; see `format.Reader`."""
    comments = read_header(file.path).comments
    return replace(
        read_wfdb(file),
        patient_id=file.path.stem,
        age_years=to_float(comments.get("age")),
        sex={"m": "M", "f": "F"}.get(comments.get("sex", "").lower()[:1]),
    )


def cinc_statements(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
    """The SNOMED CT codes in the headers, equal ones and CPSC 2018's texts as one; see `format.StatementReader`."""
    for name, path in files:
        try:
            check_file(path, folder, MAX_HEADER_BYTES / 2**20)
            codes = read_header(path).comments.get("dx", "")
        except (Rejected, OSError):
            # The waveform store rejects the same file with its reason.
            skipped["header that cannot be read"] += 1
            continue
        stated = (CPSC_TEXTS.get(code.strip(), code.strip()) for code in codes.split(","))
        for code in dict.fromkeys(EQUAL_CODES.get(code, code) for code in stated if code):
            yield Statement(name, path.stem, code, 1.0)
