"""Labels that came with the ECGs: measurements and diagnoses of a hospital's tables, statements of public data sets
and of carts.

Patient identifiers are read here and written as pseudonyms. A row or a file that cannot be used is left out and
counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.format import Statements
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, known_id
from ecg_pipeline.ingest.reading import ecg_id_of
from ecg_pipeline.storage.files import read_json, write_json, write_parquet

REVISION = 4
"""Bumped by hand when this module's results change."""

LABEL_SCHEMA = {
    "patient": pl.String,
    "ecg_id": pl.String,
    "observed_at": pl.Datetime,
    "system": pl.String,
    "code": pl.String,
    "value": pl.Float64,
}
TIME_FORMATS = (
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%dT%H:%M",
    "%Y-%m-%d %H:%M",
    "%Y/%m/%d %H:%M:%S",
    "%d-%m-%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S",
)
DATE_FORMATS = ("%Y-%m-%d", "%Y/%m/%d", "%d-%m-%Y", "%d/%m/%Y")
"""Accepted formats of `observed_at`, with and without a time of day. Rows of one table may differ."""

WITHDRAWN = "row of a patient who withdrew"
"""Why a row is left out."""

TABLE_COLUMNS = ("patient_id", "observed_at", "system", "code", "value")


@dataclass(frozen=True)
class ClinicalLabels:
    """A site's labels. Files: `labels.parquet`, `skipped.json`."""

    folder: Path

    def labels(self) -> pl.DataFrame:
        """One row per label, columns as in `LABEL_SCHEMA`: of a patient on a date, or of one ECG (a statement).

        system: "measurement", "diagnosis", or that of a statement, as `Statements.system`. value: the measured value,
        1 or 0 for a diagnosis made or excluded, the likelihood of a statement (PTB-XL writes 0 for unknown).
        """
        return pl.read_parquet(self.folder / "labels.parquet")

    def skipped(self) -> dict[str, int]:
        """Number of rows and files that could not be used, by reason."""
        return read_json(self.folder / "skipped.json")


def collect_labels(drop: DropFolder, listing: pl.DataFrame, *, key: PseudonymKey, out: Path) -> ClinicalLabels:
    """Write a site's labels to `out`, from the files of a listing.

    A missing table or column is an error that names it, and a table that is still being written an UnsettledError.
    """
    skipped = Counter[str]()
    rows = list(_statements(drop, listing, key, skipped))
    tables = [_label_table(drop.table_file(listing, name), drop, key, skipped) for name in drop.label_tables]
    labels = pl.concat([pl.DataFrame(rows, schema=LABEL_SCHEMA), *tables])
    write_parquet(out / "labels.parquet", labels.sort("patient", "ecg_id", "system", "code", "observed_at", "value"))
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
        known = known_id(patient_id)
        return key.pseudonym(drop.mrn_system, known) if known else None

    def is_withdrawn(patient: str) -> bool:
        return drop.withdrawals.entry_of(key, patient) is not None

    labels = table.select(
        pl.col("patient_id").map_elements(pseudonym, return_dtype=pl.String).alias("patient"),
        pl.lit(None, pl.String).alias("ecg_id"),
        _observed_at(),
        "system",
        "code",
        pl.col("value").cast(pl.Float64, strict=False),
    )
    without_patient, without_value = pl.col("patient").is_null(), ~pl.col("value").is_finite().fill_null(False)
    counts = labels.select(patient=without_patient.sum(), value=(~without_patient & without_value).sum()).row(0)
    skipped.update(dict(zip(("row without a patient", "row whose value is no number"), counts, strict=True)))
    labels = labels.filter(~without_patient & ~without_value)
    if not drop.withdrawals.everyone:
        return labels
    withdrawn = labels["patient"].map_elements(is_withdrawn, return_dtype=pl.Boolean)
    if withdrawn.any():
        skipped[WITHDRAWN] += int(withdrawn.sum())
    return labels.filter(~withdrawn)


def _observed_at() -> pl.Expr:
    text = pl.col("observed_at")
    times = [text.str.to_datetime(form, strict=False, time_unit="us") for form in TIME_FORMATS]
    days = [text.str.to_date(form, strict=False).cast(pl.Datetime("us")) for form in DATE_FORMATS]
    return pl.coalesce(*times, *days).alias("observed_at")


def _statements(
    drop: DropFolder, listing: pl.DataFrame, key: PseudonymKey, skipped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """A row of the labels for each statement that the format's own files make."""
    ecg_format = FORMATS[drop.format]
    if not ecg_format.statements:
        return
    for table in ecg_format.tables:
        drop.table_file(listing, table.name)
    names = drop.ecgs(listing)["name"]
    for statements in ecg_format.statements:
        files = ((name, drop.place(name)[0]) for name in names)
        yield from _rows(statements, files, drop, key, skipped)


def _rows(
    statements: Statements,
    files: Iterable[tuple[str, Path]],
    drop: DropFolder,
    key: PseudonymKey,
    skipped: Counter[str],
) -> Iterator[dict[str, Any]]:
    """A row of the labels for each statement of one system."""
    for statement in statements.read(drop.path, files, skipped):
        if drop.site_names and statement.site_name not in drop.site_names:
            skipped["statement of an ECG of another site"] += 1
            continue
        patient = key.pseudonym(drop.mrn_system, statement.patient_id) if statement.patient_id else None
        if drop.withdrawals.entry_of(key, patient):
            skipped[WITHDRAWN] += 1
            continue
        yield {
            "patient": patient,
            "ecg_id": ecg_id_of(drop, key, statement.file),
            "system": statements.system,
            "code": statement.code,
            "value": statement.value,
        }
