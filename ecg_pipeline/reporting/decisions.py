"""Tables of the models that saw all training patients: operating points and subgroups."""

from dataclasses import dataclass
from itertools import groupby

import polars as pl

from ecg_pipeline.metrics.decision import TARGET_RATE
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.estimate import Estimate
from ecg_pipeline.reporting.results import TaskResults

POINTS = {
    "youden": "Largest sensitivity + specificity",
    "sensitivity_90": f"Sensitivity of {100 * TARGET_RATE:g} % on validation patients",
    "specificity_90": f"Specificity of {100 * TARGET_RATE:g} % on validation patients",
}
"""Operating points in words, in the order of the table."""


@dataclass(frozen=True)
class OperatingRow:
    """One model at one operating point: counts and rates, means over its seeds."""

    model: str
    threshold: float
    true_positives: float
    false_positives: float
    true_negatives: float
    false_negatives: float
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None


@dataclass(frozen=True)
class Subgroup:
    """One group of ECGs. estimates: the AUROC of each model."""

    group: str
    ecgs: int
    patients: int
    positives: int
    estimates: list[Estimate]


def operating_points(
    task: TaskResults, cells: tables.Cells, *, models: list[str], population: str
) -> dict[str, list[OperatingRow]]:
    """One row per model for each operating point, by the point's name in words; empty if there are none."""
    found = {}
    for model in models:
        table = cells[model, tables.fractions(task)[-1], population].operating_points
        means = table.group_by("point", maintain_order=True).agg(pl.exclude("seed").mean())
        for row in means.iter_rows(named=True):
            found.setdefault(row.pop("point"), []).append(OperatingRow(model, **row))
    return {words: found[point] for point, words in POINTS.items() if point in found}


def subgroups(
    task: TaskResults, cells: tables.Cells, *, models: list[str], population: str
) -> dict[str, list[Subgroup]]:
    """The groups of each attribute (sex, age, site, device)."""
    by_model = [cells[model, tables.fractions(task)[-1], population].subgroups.rows(named=True) for model in models]
    groups = list(zip(*by_model, strict=True))
    return {
        attribute: [
            Subgroup(
                rows[0]["group"],
                rows[0]["ecgs"],
                rows[0]["patients"],
                rows[0]["positives"],
                [Estimate(row["auroc"], row["low"], row["high"]) for row in rows],
            )
            for rows in members
        ]
        for attribute, members in groupby(groups, key=lambda rows: rows[0]["attribute"])
    }


def no_operating_points(task: TaskResults) -> str | None:
    """Why some models that saw all training patients have no operating points, or None."""
    largest = tables.fractions(task)[-1]
    evaluations = (evaluation for (_, fraction, _), evaluation in task.evaluations.items() if fraction == largest)
    reasons = (evaluation.metrics()["operating_points"]["reason"] for evaluation in evaluations)
    return next(filter(None, reasons), None)
