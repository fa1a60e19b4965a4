"""MIMIC-IV-ECG: WFDB records in folders named after subject and study, and the cart's words in a table.

Gow et al. 2023, MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset. `record_list.csv` has the path of each
study, `machine_measurements.csv` up to 18 lines of the cart's words on each study. Their rows differ in order and
number: they are matched by study.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import polars as pl

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.formats.csv_table import CsvTable, csv_table
from ecg_pipeline.ingest.formats.format import EcgFile, SourceText, Statement
from ecg_pipeline.ingest.formats.muse_statements import listed_statement
from ecg_pipeline.ingest.formats.values import to_time
from ecg_pipeline.ingest.formats.wfdb import read_header, read_wfdb
from ecg_pipeline.ingest.pseudonyms import known_id

RECORDS = "record_list.csv"
MEASUREMENTS = "machine_measurements.csv"
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


def mimic_records(folder: Path) -> CsvTable:
    """`record_list.csv` by study: subject, and path without suffix; see `csv_table`."""
    return csv_table(folder / RECORDS, key="study_id", required=("subject_id", "path"))


def mimic_measurements(folder: Path) -> CsvTable:
    """The cart's words in `machine_measurements.csv`, by study; see `csv_table`."""
    return csv_table(folder / MEASUREMENTS, key="study_id", required=("subject_id", *LINES[:1]), optional=LINES[1:])


def mimic_statements(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
    """The cart's statements as far as they are in the closed list of `muse_statements`, of every row of the tables,
    whether its file is there or not; see `format.StatementReader`.
    """
    records, measured = mimic_records(folder).table, mimic_measurements(folder).table
    by_study = measured.unique("study_id", keep="last", maintain_order=True).drop("subject_id")
    lines = [column for column in LINES if column in by_study.columns]
    joined = records.unique("study_id", keep="last", maintain_order=True).join(
        by_study, on="study_id", how="left", maintain_order="left", coalesce=False, suffix="_measured"
    )
    skipped["study without the cart's words"] += joined["study_id_measured"].null_count()
    for row in joined.select("path", "subject_id", pl.concat_list(lines).alias("lines")).iter_rows(named=True):
        for code in dict.fromkeys(listed_statement(line) for line in row["lines"] or ()):
            if code and row["path"]:
                yield Statement(f"{row['path']}.hea", known_id(row["subject_id"]), code, 1.0)


def mimic_texts(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[SourceText]:
    """The lines of each record's study in `machine_measurements.csv`, joined by blanks; see `format.TextReader`.

    A study with several rows that differ has no text.
    """
    measured = mimic_measurements(folder).table
    lines = [pl.col(column).replace("", None) for column in LINES if column in measured.columns]
    rows = measured.select("study_id", text=pl.concat_str(lines, separator=" ", ignore_nulls=True)).unique()
    texts = dict(rows.iter_rows())
    several = rows.filter(pl.col("study_id").is_duplicated())["study_id"].unique()
    skipped["study with several texts"] += len(several)
    texts |= dict.fromkeys(several, "")
    for name, path in files:
        if (found := _SUBJECT.search(path.as_posix())) is None:
            continue
        subject = known_id(found.group(1))
        yield SourceText(name, subject, texts.get(found.group(2), ""), identities=(subject,) if subject else ())
