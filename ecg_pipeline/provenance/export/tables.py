"""The tables that exports publish as files of their own: counts and figures, never a row of a patient or an ECG."""

from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.provenance.export.facts import CountFact, Facts, MetricFact, RejectFact
from ecg_pipeline.storage.files import write_text

ALL = "all"
"""In place of a site, split or label, of tables that do not tell these apart."""

COLUMNS: dict[str, dict[str, Any]] = {
    "counts": {field.name: pl.String for field in fields(CountFact)} | {"ecgs": pl.Int64, "patients": pl.Int64},
    "rejects": {"site": pl.String, "reason": pl.String, "files": pl.Int64},
    "metrics": {field.name: pl.Float64 for field in fields(MetricFact)}
    | {"evaluation": pl.String, "site": pl.String, "name": pl.String}
    | {"ecgs": pl.Int64, "patients": pl.Int64, "positives": pl.Int64},
}
"""The columns of each table, which is written to a CSV file of its name."""

DESCRIPTIONS = {
    "counts": "ECGs and patients by table, site, split and label.",
    "rejects": "Files of each site that were read and not used, by reason.",
    "metrics": "Figures of the evaluations by site, with 95 % intervals, and of how many ECGs and patients they are.",
}


def write_tables(facts: Facts, out: Path) -> dict[str, Path]:
    """Write the tables to CSV files in the folder `out`; returns them by the name of the table."""
    rows: dict[str, Iterable[CountFact | RejectFact | MetricFact]] = {
        "counts": facts.counts,
        "rejects": facts.rejects,
        "metrics": facts.metrics,
    }
    return {name: write_text(out / f"{name}.csv", _csv(name, rows[name])) for name in COLUMNS}


def _csv(name: str, rows: Iterable[CountFact | RejectFact | MetricFact]) -> str:
    schema = COLUMNS[name]
    texts = [column for column, kind in schema.items() if kind == pl.String]
    stated = [
        {column: value if column not in texts else _text(value) for column, value in asdict(row).items()}
        for row in rows
    ]
    return pl.DataFrame(stated, schema=schema).write_csv()


def _text(value: Any) -> str:
    return ALL if value is None else str(value)
