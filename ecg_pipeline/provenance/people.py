"""Counts of the patients in the tables of outputs, so that an audit can say whom a model was made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.shards import TABLES

PATIENT = "patient"
"""Column of every table of patients: their pseudonyms."""


@dataclass(frozen=True)
class People:
    """The patients of one table. by: `split` and `site`, as far as the table has them. ecgs: rows."""

    table: str
    by: dict[str, str]
    ecgs: int
    patients: int
    positives: int | None


def people(folder: Path, files: Mapping[str, str], known: dict[str, tuple[People, ...]]) -> Iterator[People]:
    """Counts of every table of patients in a build, by split and site. Tables of single shards are left out.

    files: digests of the build's files, by their paths. known: counts of tables by digest, to which this adds: a table
    that stands in several builds is counted once.
    """
    for name, digest in sorted(files.items()):
        if not name.endswith(".parquet") or TABLES in name.split("/") or not (path := folder / name).is_file():
            continue
        if digest not in known:
            known[digest] = tuple(_counts(path, name))
        yield from (replace(row, table=name) for row in known[digest])


def _counts(path: Path, name: str) -> Iterator[People]:
    """Counts of a table; none if it has no column of patients."""
    columns = pl.read_parquet_schema(path)
    if PATIENT not in columns:
        return
    by = [column for column in ("split", "site") if column in columns]
    # Patients are counted by 64-bit hashes: as text, those of millions of ECGs would take a gigabyte.
    counted = {"ecgs": pl.len(), "patients": pl.col(PATIENT).drop_nulls().hash().n_unique()}
    if "label" in columns:
        counted["positives"] = pl.col("label").cast(pl.Int64).sum()
    table = pl.scan_parquet(path).select(PATIENT, *by, *(["label"] if "label" in columns else []))
    grouped = table.group_by(by).agg(**counted) if by else table.select(**counted)
    rows = grouped.collect(engine="streaming")
    for row in (rows.sort(by) if by else rows).iter_rows(named=True):
        cut = {column: str(row[column]) for column in by}
        yield People(name, cut, row["ecgs"], row["patients"], row.get("positives"))
