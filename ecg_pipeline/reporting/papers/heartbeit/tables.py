"""Tables 1 to 3 of the paper as data (`tables.yaml`), to compare with a study's own results."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from ecg_pipeline.reporting.estimate import Estimate
from ecg_pipeline.reporting.paper import Published, PublishedTables

TABLES = Path(__file__).with_name("tables.yaml")


@cache
def published() -> PublishedTables:
    """The paper's tables. Its AUPRC is compared with average precision, the other estimate of the same area."""
    read: dict[str, Any] = yaml.safe_load(TABLES.read_text(encoding="utf-8"))
    return PublishedTables(
        title=read["title"],
        fractions=tuple(read["fractions"]),
        models=read["models"],
        splits=read["splits"],
        cohorts={
            task: {split: (ecgs, percent) for split, (ecgs, percent) in by_split.items()}
            for task, by_split in read["cohorts"].items()
        },
        metrics={"auroc": _estimates(read["auroc"]), "average_precision": _estimates(read["auprc"])},
        distances=read["distances"],
        contradictions=read["contradictions"],
    )


def _estimates(by_task: dict[str, Any]) -> Published:
    return {
        task: {
            split: {model: [Estimate(*value) for value in values] for model, values in by_model.items()}
            for split, by_model in by_split.items()
        }
        for task, by_split in by_task.items()
    }
