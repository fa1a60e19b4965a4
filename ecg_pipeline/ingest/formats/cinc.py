"""Data of the PhysioNet/CinC challenges: WFDB records (`.hea`, `.mat`) with demographics and diagnoses in comments.

There are no patient identifiers in these data sets: each record is a patient of its own.
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
    """The SNOMED CT codes in the headers; see `format.StatementReader`."""
    for name, path in files:
        try:
            check_file(path, folder, MAX_HEADER_BYTES / 2**20)
            codes = read_header(path).comments.get("dx", "")
        except (Rejected, OSError):
            # The waveform store rejects the same file with its reason.
            skipped["header that cannot be read"] += 1
            continue
        for code in filter(None, (code.strip() for code in codes.split(","))):
            yield Statement(name, path.stem, code, 1.0)
