"""Labels that came with the ECGs: measurements and diagnoses of a hospital's tables, statements of public data sets.

The second place where a hospital's own patient identifiers are read; what leaves it carries pseudonyms. A row or a
header that cannot be used is left out and counted.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.formats.wfdb import PTB_XL_TABLE, ptb_xl_patient, ptb_xl_rows, read_header
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, identified
from ecg_pipeline.ingest.rejects import Rejected
from ecg_pipeline.ingest.store import check_file, record_id
from ecg_pipeline.storage.files import read_json, write_json, write_parquet

REVISION = 2
"""Bumped by hand when this module's results change."""

LABEL_SCHEMA = {
    "patient": pl.String,
    "record": pl.String,
    "observed_at": pl.Datetime,
    "system": pl.String,
    "code": pl.String,
    "value": pl.Float64,
}
LARGEST_HEADER_MB = 1
LONGEST_STATEMENTS = 20_000
"""Characters of one record's statements: Python's parser takes a hundred times as much memory."""

TIMES = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d-%m-%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
)
DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d-%m-%Y", "%d/%m/%Y")
"""How a table may write when something was observed. Each row is read for itself."""

TABLE_COLUMNS = ("patient_id", "observed_at", "system", "code", "value")


@dataclass(frozen=True)
class ClinicalLabels:
    """A site's labels. Files: `labels.parquet`, `skipped.json`."""

    folder: Path

    def labels(self) -> pl.DataFrame:
        """One row a label, columns as in `LABEL_SCHEMA`: of a patient on a date, or of one record (a statement).

        system: "measurement", "diagnosis", "scp" or "snomed". value: the measured value, 1 or 0 for a diagnosis made
        or excluded, the likelihood of a statement (PTB-XL writes 0 for unknown).
        """
        return pl.read_parquet(self.folder / "labels.parquet")

    def skipped(self) -> dict[str, int]:
        """How many rows and headers could not be used, by why."""
        return read_json(self.folder / "skipped.json")


def collect_labels(drop: DropFolder, listing: pl.DataFrame, key: PseudonymKey, out: Path) -> ClinicalLabels:
    """Gather a site's labels into `out`, from the files of a listing.

    A missing table or column is an error that names it, and a table that is still being written an UnsettledError.
    """
    skipped = Counter[str]()
    statements = {"ptb_xl": _ptb_xl_statements, "cinc": _cinc_statements}.get(drop.format)
    rows = list(statements(drop, listing, key, skipped)) if statements else []
    tables = [_label_table(drop.table_file(listing, name), drop, key, skipped) for name in drop.label_tables]
    labels = pl.concat([pl.DataFrame(rows, schema=LABEL_SCHEMA), *tables])
    write_parquet(out / "labels.parquet", labels.sort("patient", "record", "system", "code", "observed_at", "value"))
    write_json(out / "skipped.json", dict(sorted(skipped.items())))
    return ClinicalLabels(out)


def _label_table(path: Path, drop: DropFolder, key: PseudonymKey, skipped: Counter[str]) -> pl.DataFrame:
    try:
        table = pl.read_csv(path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True)
    except pl.exceptions.NoDataError:
        table = pl.DataFrame()
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; a label table has {', '.join(TABLE_COLUMNS)}")

    def pseudonym(patient_id: str) -> str | None:
        known = identified(patient_id)
        return key.pseudonym(drop.mrn_system, known) if known else None

    labels = table.select(
        pl.col("patient_id").map_elements(pseudonym, return_dtype=pl.String).alias("patient"),
        pl.lit(None, pl.String).alias("record"),
        _observed_at(),
        "system",
        "code",
        pl.col("value").cast(pl.Float64, strict=False),
    )
    unnamed, useless = pl.col("patient").is_null(), ~pl.col("value").is_finite().fill_null(False)
    counts = labels.select(unnamed=unnamed.sum(), useless=(~unnamed & useless).sum()).row(0)
    skipped.update(dict(zip(("row without a patient", "row whose value is no number"), counts, strict=True)))
    return labels.filter(~unnamed & ~useless)


def _observed_at() -> pl.Expr:
    text = pl.col("observed_at")
    times = [text.str.to_datetime(form, strict=False, time_unit="us") for form in TIMES]
    days = [text.str.to_date(form, strict=False).cast(pl.Datetime("us")) for form in DAYS]
    return pl.coalesce(*times, *days).alias("observed_at")


def _ptb_xl_statements(
    drop: DropFolder, listing: pl.DataFrame, key: PseudonymKey, skipped: Counter[str]
) -> Iterator[dict[str, Any]]:
    drop.table_file(listing, PTB_XL_TABLE)
    for name, row in ptb_xl_rows(drop.path).items():
        patient = ptb_xl_patient(row)
        try:
            statements = _likelihoods(row.get("scp_codes", ""))
        except ValueError:
            skipped["row whose statements cannot be read"] += 1
            continue
        for code, likelihood in statements.items():
            yield {
                "patient": key.pseudonym(drop.mrn_system, patient) if patient else None,
                "record": record_id(drop, key, f"{name}.hea"),
                "system": "scp",
                "code": code,
                "value": likelihood,
            }


def _likelihoods(text: str) -> dict[str, float]:
    """Likelihood by code, as PTB-XL writes them: a Python literal. Anything else is a ValueError."""
    if len(text) > LONGEST_STATEMENTS:
        raise ValueError("longer than the statements of a record")
    try:
        codes = ast.literal_eval(text.strip())
        likelihoods = {str(code): float(likelihood) for code, likelihood in codes.items()}
    except (ValueError, SyntaxError, TypeError, AttributeError, OverflowError, MemoryError, RecursionError):
        raise ValueError("not a mapping of codes") from None
    if not all(isfinite(likelihood) for likelihood in likelihoods.values()):
        raise ValueError("a likelihood that is no number")
    return likelihoods


def _cinc_statements(
    drop: DropFolder, listing: pl.DataFrame, key: PseudonymKey, skipped: Counter[str]
) -> Iterator[dict[str, Any]]:
    for name in drop.ecg_files(listing)["name"]:
        path = drop.file(name)
        try:
            check_file(path, drop, LARGEST_HEADER_MB)
            codes = read_header(path).comments.get("dx", "")
        except (Rejected, OSError):
            # The waveform store rejects the same file with its reason.
            skipped["header that cannot be read"] += 1
            continue
        for code in filter(None, (code.strip() for code in codes.split(","))):
            yield {
                "patient": key.pseudonym(drop.mrn_system, path.stem),
                "record": record_id(drop, key, name),
                "system": "snomed",
                "code": code,
                "value": 1.0,
            }
