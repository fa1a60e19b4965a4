"""Labels that came with the ECGs: measurements and diagnoses of a hospital's tables, statements of public data sets.

The second place where a hospital's own patient identifiers are read; what leaves it carries pseudonyms.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.files import write_parquet
from ecg_pipeline.records.drop_folder import DropFolder
from ecg_pipeline.records.pseudonyms import PseudonymKey, identified
from ecg_pipeline.records.rejects import Rejected
from ecg_pipeline.records.store import record_id
from ecg_pipeline.records.wfdb_records import ptb_xl_rows, read_header

REVISION = 1
"""Bumped by hand when this module's results change."""

LABEL_SCHEMA = {
    "patient": pl.String,
    "record": pl.String,
    "observed_at": pl.Datetime,
    "system": pl.String,
    "code": pl.String,
    "value": pl.Float64,
}
TABLE_COLUMNS = ("patient_id", "observed_at", "system", "code", "value")


@dataclass(frozen=True)
class ClinicalLabels:
    """A site's labels. File: `labels.parquet`."""

    folder: Path

    def labels(self) -> pl.DataFrame:
        """One row a label, columns as in `LABEL_SCHEMA`: of a patient on a date, or of one record (a statement).

        system: "measurement", "diagnosis", "scp" or "snomed". value: the measured value, 1 or 0 for a diagnosis made
        or excluded, the likelihood of a statement (PTB-XL writes 0 for unknown).
        """
        return pl.read_parquet(self.folder / "labels.parquet")


def collect_labels(drop: DropFolder, key: PseudonymKey, out: Path) -> ClinicalLabels:
    """Gather a site's labels into `out`. A missing table or column is an error that names it."""
    statements = {"ptb_xl": _ptb_xl_statements, "cinc": _cinc_statements}.get(drop.format)
    rows = list(statements(drop, key)) if statements else []
    tables = [_label_table(drop.path / name, drop, key) for name in drop.label_tables]
    labels = pl.concat([pl.DataFrame(rows, schema=LABEL_SCHEMA), *tables])
    write_parquet(out / "labels.parquet", labels.sort("patient", "record", "system", "code", "observed_at", "value"))
    return ClinicalLabels(out)


def _label_table(path: Path, drop: DropFolder, key: PseudonymKey) -> pl.DataFrame:
    if not path.is_file():
        raise FileNotFoundError(f"site {drop.site}: there is no label table {path}")
    table = pl.read_csv(path, infer_schema=False)
    missing = [column for column in TABLE_COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; a label table has {', '.join(TABLE_COLUMNS)}")

    def pseudonym(patient_id: str) -> str | None:
        known = identified(patient_id)
        return key.pseudonym(drop.mrn_system, known) if known else None

    return table.select(
        pl.col("patient_id").map_elements(pseudonym, return_dtype=pl.String).alias("patient"),
        pl.lit(None, pl.String).alias("record"),
        pl.col("observed_at").str.to_datetime(strict=False, time_unit="us"),
        "system",
        "code",
        pl.col("value").cast(pl.Float64, strict=False),
    ).filter(pl.col("patient").is_not_null() & pl.col("value").is_not_null())


def _ptb_xl_statements(drop: DropFolder, key: PseudonymKey) -> Iterator[dict[str, Any]]:
    for name, row in ptb_xl_rows(drop.path).items():
        patient = identified(row["patient_id"].removesuffix(".0"))
        for code, likelihood in ast.literal_eval(row["scp_codes"]).items():
            yield {
                "patient": key.pseudonym(drop.mrn_system, patient) if patient else None,
                "record": record_id(drop, key, (drop.path / name).with_suffix(".hea")),
                "system": "scp",
                "code": code,
                "value": float(likelihood),
            }


def _cinc_statements(drop: DropFolder, key: PseudonymKey) -> Iterator[dict[str, Any]]:
    for path in drop.ecg_files():
        try:
            codes = read_header(path).comments.get("dx", "")
        except Rejected:
            # The waveform store rejects the same file with its reason.
            continue
        for code in filter(None, (code.strip() for code in codes.split(","))):
            yield {
                "patient": key.pseudonym(drop.mrn_system, path.stem),
                "record": record_id(drop, key, path),
                "system": "snomed",
                "code": code,
                "value": 1.0,
            }
