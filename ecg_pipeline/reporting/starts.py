"""What the models of a page start from: the lines beside their names, and the table of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ecg_pipeline.models.start import START_WORDS
from ecg_pipeline.reporting.results import Background

NOTHING, FINE_TUNED = "–", "fine-tuned whole"


@dataclass(frozen=True)
class ModelStart:
    """One model in the table of what models start from.

    saw: what its pretraining saw, in words. sites: ECGs and patients that it saw, by title of their site; where that is
    empty, `no_sites` is printed instead. fitting: how it was fitted to a task.
    """

    model: str
    weights: str
    saw: str
    sites: Mapping[str, Mapping[str, int]]
    no_sites: str
    licence: str
    fitting: str


def model_starts(results: pl.DataFrame, background: Background) -> list[ModelStart]:
    """The models of `results.parquet`, each once."""
    return [
        ModelStart(
            model=row["model"],
            weights=row["weights"] or row["initialisation"],
            saw=row["pretraining_saw"] or NOTHING,
            sites=background.pretrained_on.get(row["model"]) or {},
            no_sites="unknown" if row["model"] in background.pretrained_on else NOTHING,
            licence=row["licence"] or NOTHING,
            fitting=row["fitting"] or FINE_TUNED,
        )
        for row in results.select("model", "initialisation", *START_WORDS)
        .unique("model", maintain_order=True)
        .iter_rows(named=True)
    ]


def start_lines(row: Mapping[str, Any]) -> list[str]:
    """Short lines for the cell of a model: its weights and how it is fitted; what pretraining saw, and the licence.

    row: of `results.parquet`.
    """
    weights = "; ".join(filter(None, (row["weights"] or row["initialisation"], row["fitting"])))
    saw = f"saw {row['pretraining_saw']}" if row["pretraining_saw"] else None
    licence = f"licence {row['licence']}" if row["licence"] else None
    return [line for line in (weights, "; ".join(filter(None, (saw, licence)))) if line]
