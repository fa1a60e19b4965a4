"""The numbers of a report: each model at each site and over the internal sites together, and how far models differ."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import EvaluationMetrics
from ecg_pipeline.evaluation.summary import by_ecg, compute_metrics
from ecg_pipeline.metrics.comparisons import Difference, delong, paired_difference
from ecg_pipeline.reporting.results import TaskResults

TOGETHER = "all inside"
"""Name of the sites that train and test, taken together: what the paper calls internal testing."""

Cells = Mapping[tuple[str, float, str], EvaluationMetrics]
"""Metrics by model, fraction and population."""

RESULT_SCHEMA = {
    "task": pl.String,
    "model": pl.String,
    "initialisation": pl.String,
    "fraction": pl.Float64,
    "site": pl.String,
    "role": pl.String,
    "train_patients": pl.Int64,
    "train_positives": pl.Int64,
    "seeds": pl.Int64,
    "optimistic": pl.Boolean,
    "ecgs": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "auroc": pl.Float64,
    "auroc_low": pl.Float64,
    "auroc_high": pl.Float64,
    "auroc_sd": pl.Float64,
    "average_precision": pl.Float64,
    "average_precision_low": pl.Float64,
    "average_precision_high": pl.Float64,
    "average_precision_sd": pl.Float64,
    "trapezoid_auprc": pl.Float64,
    "brier": pl.Float64,
    "slope": pl.Float64,
    "intercept": pl.Float64,
    "in_the_large": pl.Float64,
    "patient_auroc": pl.Float64,
    "patient_auroc_low": pl.Float64,
    "patient_auroc_high": pl.Float64,
    "patient_average_precision": pl.Float64,
    "patient_average_precision_low": pl.Float64,
    "patient_average_precision_high": pl.Float64,
}

DIFFERENCE_SCHEMA = {
    "task": pl.String,
    "site": pl.String,
    "fraction": pl.Float64,
    "model": pl.String,
    "other": pl.String,
    "ecgs": pl.Int64,
    "auroc": pl.Float64,
    "auroc_low": pl.Float64,
    "auroc_high": pl.Float64,
    "auroc_p": pl.Float64,
    "delong_low": pl.Float64,
    "delong_high": pl.Float64,
    "delong_p": pl.Float64,
    "average_precision": pl.Float64,
    "average_precision_low": pl.Float64,
    "average_precision_high": pl.Float64,
    "average_precision_p": pl.Float64,
    "reason": pl.String,
}


def populations(task: TaskResults) -> dict[str, tuple[str, ...]]:
    """Whose ECGs a row of a table is about: the inside sites together where there are several, then each site."""
    tested = {site for _, _, site in task.evaluations}
    sites = [site for site in task.roles if site in tested]
    inside = tuple(site for site in sites if task.roles[site] != "external")
    together = {TOGETHER: inside} if len(inside) > 1 else {}
    return together | {site: (site,) for site in sites}


def main_populations(task: TaskResults) -> list[str]:
    """The populations of the paper's figures: those inside together, and each external hospital."""
    names = populations(task)
    return [name for name in names if TOGETHER not in names or name == TOGETHER or task.roles[name] == "external"]


def role(task: TaskResults, population: str) -> str:
    """The role of a population: that of its first site."""
    return task.roles[populations(task)[population][0]]


def models(task: TaskResults, first: str) -> list[str]:
    """Names of the task's models, `first` before the others."""
    names = dict.fromkeys(model for model, _, _ in task.evaluations)
    return sorted(names, key=lambda name: name != first)


def fractions(task: TaskResults) -> list[float]:
    """The fractions of the training patients, ascending."""
    return sorted({fraction for _, fraction, _ in task.evaluations})


def predictions(task: TaskResults, model: str, fraction: float, population: str) -> pl.DataFrame:
    """Predictions over all sites of a population, ordered by seed and record."""
    sites = populations(task)[population]
    return pl.concat([task.evaluations[model, fraction, site].predictions() for site in sites]).sort("seed", "record")


def compute_cells(task: TaskResults, recipe: EvaluationRecipe) -> Cells:
    """Metrics by model, fraction and population: as stored for one site, computed for several sites together."""
    cells = {}
    for model, fraction in dict.fromkeys((model, fraction) for model, fraction, _ in task.evaluations):
        for population, sites in populations(task).items():
            first = task.evaluations[model, fraction, sites[0]]
            cells[model, fraction, population] = (
                first.evaluation_metrics()
                if len(sites) == 1
                else compute_metrics(predictions(task, model, fraction, population), first.thresholds(), recipe)
            )
    return cells


def result_rows(task: TaskResults, cells: Cells) -> pl.DataFrame:
    """The numbers of a task, a row for each model, fraction and population; null where there is no such figure.

    AUROC and average precision are means over the seeds, low and high the interval of the mean, sd that of the seeds.
    Calibration is the mean over the seeds, all of which must have one. `patient_` figures count each patient once.
    """
    rows = []
    for (model, fraction, population), computed in cells.items():
        metrics = computed.metrics
        about = task.evaluations[model, fraction, populations(task)[population][0]].metrics()["model"]
        row: dict[str, Any] = {
            "task": task.name,
            "model": model,
            "fraction": fraction,
            "site": population,
            "role": role(task, population),
            "seeds": len(about["seeds"]),
        }
        row |= {name: about[name] for name in ("initialisation", "optimistic", "train_patients", "train_positives")}
        row |= {name: metrics[name] for name in ("ecgs", "patients", "positives", "trapezoid_auprc", "brier")}
        row |= _interval(metrics, "", ("low", "high", "sd"))
        row |= _interval(metrics["patient_level"] or {}, "patient_", ("low", "high"))
        row |= _mean_calibration(metrics["calibration"])
        rows.append(row)
    return pl.DataFrame(rows, schema=RESULT_SCHEMA).sort("model", "fraction", maintain_order=True)


def difference_rows(task: TaskResults, first: str, recipe: EvaluationRecipe) -> pl.DataFrame:
    """How far the model `first` is ahead of each other one on the same ECGs, by main population and fraction.

    Intervals and p values are those of the paired bootstrap, `delong_` those of DeLong's test for the AUROC. Where one
    of the two cannot be had, its values are null and `reason` says why.
    """
    rows = []
    for population in main_populations(task):
        for fraction in fractions(task):
            ecgs, scores = by_ecg(predictions(task, first, fraction, population))
            labels, patients = ecgs["label"].to_numpy(), ecgs["patient"].to_numpy()
            for other in models(task, first)[1:]:
                same, others = by_ecg(predictions(task, other, fraction, population))
                assert same["record"].equals(ecgs["record"])  # all models are tested on one cohort
                row: dict[str, Any] = {"task": task.name, "site": population, "fraction": fraction}
                row |= {"model": first, "other": other, "ecgs": len(ecgs)}
                try:
                    areas = paired_difference(labels, scores, others, patients, recipe.bootstrap_draws, recipe.seed)
                    row |= dict(_named("auroc", areas[0])) | dict(_named("average_precision", areas[1]))
                    checked = dict(_named("delong", delong(labels, scores, others, patients)))
                    row |= {name: value for name, value in checked.items() if name != "delong"}
                except ValueError as error:
                    row["reason"] = str(error)
                rows.append(row)
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA)


def operating_rows(task: TaskResults, cells: Cells, first: str, population: str) -> list[dict[str, Any]]:
    """Operating points of the models that saw all data, a row a point and model; means over seeds."""
    rows = []
    for model in models(task, first):
        table = cells[model, fractions(task)[-1], population].operating_points
        means = table.group_by("point", maintain_order=True).agg(pl.exclude("seed").mean())
        rows += [{"model": model, **row} for row in means.iter_rows(named=True)]
    order = list(dict.fromkeys(row["point"] for row in rows))
    return sorted(rows, key=lambda row: order.index(row["point"]))


def subgroup_rows(task: TaskResults, cells: Cells, first: str, population: str) -> list[dict[str, Any]]:
    """Subgroups with counts and, under `models`, the row of each model that saw all data."""
    names = models(task, first)
    tables = [cells[model, fractions(task)[-1], population].subgroups.rows(named=True) for model in names]
    return [{**rows[0], "models": dict(zip(names, rows, strict=True))} for rows in zip(*tables, strict=True)]


def _interval(metrics: Mapping[str, Any], prefix: str, spreads: tuple[str, ...]) -> dict[str, float | None]:
    found = {}
    for name in ("auroc", "average_precision"):
        interval = metrics.get(name) or {}
        found[f"{prefix}{name}"] = interval.get("value")
        found |= {f"{prefix}{name}_{spread}": interval.get(spread) for spread in spreads}
    return found


def _mean_calibration(by_seed: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    names = ("slope", "intercept", "in_the_large")
    if not by_seed or any("reason" in values for values in by_seed.values()):
        return dict.fromkeys(names)
    return {name: float(np.mean([values[name] for values in by_seed.values()])) for name in names}


def _named(name: str, difference: Difference) -> Iterator[tuple[str, float]]:
    yield name, difference.value
    for part in ("low", "high", "p"):
        yield f"{name}_{part}", getattr(difference, part)
