"""MIMIC-IV-ECG: WFDB records in folders that are named after the subject and the study, and a table of cart's texts.

Gow et al. 2023, MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.formats.format import EcgFile, SourceText
from ecg_pipeline.ingest.formats.values import to_time
from ecg_pipeline.ingest.formats.wfdb import read_header, read_wfdb
from ecg_pipeline.ingest.pseudonyms import known_id

TEXTS = "machine_measurements.csv"
"""Table of the cart's measurements and lines of text, a row a study."""

LINES = tuple(f"report_{number}" for number in range(18))

_SUBJECT = re.compile(r"/p(\d{6,9})/s(\d+)/")


def read_mimic_iv_ecg(file: EcgFile) -> Ecg:
    """Read a MIMIC-IV-ECG record; see `format.Reader`."""
    subject = _SUBJECT.search(file.path.as_posix())
    return replace(
        read_wfdb(file),
        patient_id=known_id(subject.group(1)) if subject else None,
        acquired_at=to_time(read_header(file.path).start, "%H:%M:%S %d/%m/%Y"),
    )


def mimic_iv_ecg_texts(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[SourceText]:
    """The lines of each record's study in `machine_measurements.csv`, joined by blanks; see `format.TextReader`.

    Rows are found by their study. A study with several rows that differ has no text.
    """
    texts = _by_study(folder / TEXTS, skipped)
    for name, path in files:
        if (found := _SUBJECT.search(path.as_posix())) is None:
            continue
        subject = known_id(found.group(1))
        yield SourceText(name, subject, texts.get(found.group(2), ""), identities=(subject,) if subject else ())


def _by_study(path: Path, skipped: Counter[str]) -> dict[str, str]:
    """The text of each study; empty without the table, which is no part of a download of records alone."""
    if not path.is_file():
        skipped[f"no table {TEXTS}"] += 1
        return {}
    texts: dict[str, str] = {}
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.DictReader(file)
        missing = [column for column in ("study_id", *LINES[:1]) if column not in (rows.fieldnames or ())]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; is this MIMIC-IV-ECG's table?")
        for row in rows:
            study = (row["study_id"] or "").strip().removesuffix(".0")
            text = " ".join(line for name in LINES if (line := (row.get(name) or "").strip()))
            if texts.setdefault(study, text) != text:
                skipped["study with several texts"] += 1
                texts[study] = ""
    return texts
