"""PTB-XL: WFDB records, with patients, statements and folds in the data set's own table.

Wagner et al. 2020, PTB-XL, a large publicly available electrocardiography dataset.
"""

import ast
import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import TextIO

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.formats.format import EcgFile, SourceText, Statement
from ecg_pipeline.ingest.formats.values import to_float, to_time
from ecg_pipeline.ingest.formats.wfdb import read_wfdb
from ecg_pipeline.ingest.pseudonyms import known_id

TABLE = "ptbxl_database.csv"
COLUMNS = ("filename_hr", "patient_id", "scp_codes")

OVER_89 = 300.0
"""The age that PTB-XL writes for every age over 89."""

MAX_STATEMENT_CHARACTERS = 20_000
"""Limit of the text of one ECG's statements: Python's parser takes a hundred times as much memory."""


def read_ptb_xl(file: EcgFile) -> Ecg:
    """Read a PTB-XL record with its row of `ptbxl_database.csv`."""
    row = ptb_xl_rows(file.folder).get(file.path.relative_to(file.folder).as_posix().removesuffix(".hea"), {})
    age = to_float(row.get("age"))
    return replace(
        read_wfdb(file),
        patient_id=_patient(row),
        acquired_at=to_time(row.get("recording_date"), "%Y-%m-%d %H:%M:%S"),
        age_years=90.0 if age == OVER_89 else age,
        sex={"0": "M", "1": "F"}.get(row.get("sex", "")),
        device=(row.get("device") or "").strip() or None,
        fold=_fold(row.get("strat_fold")),
    )


def ptb_xl_statements(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
    """The SCP-ECG statements of every row of the table, whether its file is there or not, with likelihoods in percent;
    see `format.StatementReader`.
    """
    for name, row in ptb_xl_rows(folder).items():
        try:
            likelihoods = _likelihoods(row.get("scp_codes", ""))
        except ValueError:
            skipped["row whose statements cannot be read"] += 1
            continue
        for code, likelihood in likelihoods.items():
            yield Statement(f"{name}.hea", _patient(row), code, likelihood)


def ptb_xl_texts(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[SourceText]:
    """The column `report` of every row of the table, whether its file is there or not; see `format.TextReader`."""
    for name, row in ptb_xl_rows(folder).items():
        patient_id = _patient(row)
        yield SourceText(
            f"{name}.hea", patient_id, row.get("report", ""), identities=(patient_id,) if patient_id else ()
        )


def ptb_xl_rows(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Rows of `ptbxl_database.csv` by `filename_hr`, without those that are malformed. A missing table is a
    FileNotFoundError, a missing column a ValueError that names it.
    """
    path = folder / TABLE
    try:
        state = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: a folder in PTB-XL's layout needs this table") from None
    return _rows(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _rows(path: Path, size: int, mtime_ns: int) -> Mapping[str, Mapping[str, str]]:
    """Size and time of change are part of the cache's key, so that a table that changes is read again."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = _csv_lines(file)
        columns = next(lines, [])
        missing = [column for column in COLUMNS if column not in columns]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; is this PTB-XL's table?")
        rows = (dict(zip(columns, line, strict=False)) for line in lines)
        return {row["filename_hr"]: row for row in rows if row.get("filename_hr")}


def _csv_lines(file: TextIO) -> Iterator[list[str]]:
    """The rows of a CSV file except those that the csv module refuses."""
    reader = csv.reader(file)
    while True:
        try:
            yield next(reader)
        except csv.Error:
            continue
        except StopIteration:
            return


def _patient(row: Mapping[str, str]) -> str | None:
    """The patient's identifier; the table writes them as floats."""
    return known_id(row.get("patient_id", "").removesuffix(".0"))


def _fold(text: str | None) -> int | None:
    number = to_float(text)
    return int(number) if number is not None and 1 <= number <= 1000 else None


def _likelihoods(text: str) -> dict[str, float]:
    """Likelihood by code, as PTB-XL writes them: a Python literal. Anything else is a ValueError."""
    if len(text) > MAX_STATEMENT_CHARACTERS:
        raise ValueError("longer than the statements of an ECG")
    try:
        codes = ast.literal_eval(text.strip())
        likelihoods = {str(code): float(likelihood) for code, likelihood in codes.items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise ValueError("not a mapping of codes") from None
    if not all(isfinite(likelihood) for likelihood in likelihoods.values()):
        raise ValueError("a likelihood that is not finite")
    return likelihoods
