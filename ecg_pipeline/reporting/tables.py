"""The numbers of a report: each model at each site and over the internal sites together, and differences of models."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import EvaluationMetrics
from ecg_pipeline.evaluation.summary import by_ecg, compute_metrics
from ecg_pipeline.metrics.comparisons import Difference, delong, paired_difference
from ecg_pipeline.metrics.table import AUROC, METRICS, WITH_INTERVAL
from ecg_pipeline.models.start import START_WORDS
from ecg_pipeline.reporting.results import TaskResults
from ecg_pipeline.training.checkpoints import COST

TOGETHER = "all internal"
"""Name of the population of all sites that train and test."""

Cells = Mapping[tuple[str, float, str], EvaluationMetrics]
"""Metrics by model, fraction and population."""

TRAINED_ON = ("train_ecgs", "train_patients", "train_positives")

CALIBRATION = ("slope", "intercept", "in_the_large")


def _columns(name: str, endings: Iterable[str]) -> list[str]:
    return [name, *(f"{name}_{ending}" for ending in endings)]


RESULT_SCHEMA = {
    "task": pl.String,
    "model": pl.String,
    "initialisation": pl.String,
    **dict.fromkeys(START_WORDS, pl.String),
    "fraction": pl.Float64,
    "site": pl.String,
    "role": pl.String,
    **dict.fromkeys((*TRAINED_ON, *COST), pl.Int64),
    "seeds": pl.Int64,
    "optimistic": pl.Boolean,
    "ecgs": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    **{
        column: pl.Float64
        for metric in METRICS
        for column in _columns(metric.name, ("low", "high", "sd") if metric.interval else ())
    },
    **dict.fromkeys(CALIBRATION, pl.Float64),
    **{
        column: pl.Float64 for metric in WITH_INTERVAL for column in _columns(f"patient_{metric.name}", ("low", "high"))
    },
    "not_trained": pl.String,
}

DELONG = ("delong_low", "delong_high", "delong_p")
"""Columns beside those of the AUROC, the one metric that has such a test."""

DIFFERENCE_SCHEMA = {
    "task": pl.String,
    "site": pl.String,
    "fraction": pl.Float64,
    "model": pl.String,
    "other": pl.String,
    "ecgs": pl.Int64,
    **{
        column: pl.Float64
        for metric in WITH_INTERVAL
        for column in (*_columns(metric.name, ("low", "high", "p")), *(DELONG if metric is AUROC else ()))
    },
    "reason": pl.String,
}


def populations(task: TaskResults) -> dict[str, tuple[str, ...]]:
    """Whose ECGs a row of a table is about: the internal sites together where there are several, then each site."""
    tested = {site for _, _, site in task.evaluations}
    sites = [site for site in task.roles if site in tested]
    internal = tuple(site for site in sites if task.roles[site] != "external")
    together = {TOGETHER: internal} if len(internal) > 1 else {}
    return together | {site: (site,) for site in sites}


def main_populations(task: TaskResults) -> list[str]:
    """The populations that are compared and plotted: the internal sites together, and each external hospital."""
    names = populations(task)
    return [name for name in names if TOGETHER not in names or name == TOGETHER or task.roles[name] == "external"]


def role(task: TaskResults, population: str) -> str:
    """The role of a population: that of its first site."""
    return task.roles[populations(task)[population][0]]


def in_words(task: TaskResults, population: str) -> str:
    """A population in words: its name and role."""
    return f"{population} ({'internal sites' if population == TOGETHER else role(task, population)})"


def reference(task: TaskResults, wanted: str) -> str:
    """The model of a task that is compared with the others: the wanted one if the task has it, else its first."""
    names = dict.fromkeys(model for model, _, _ in task.evaluations)
    return wanted if wanted in names else next(iter(names))


def models(task: TaskResults, first: str) -> list[str]:
    """Names of the task's models, `first` before the others."""
    names = dict.fromkeys(model for model, _, _ in task.evaluations)
    return sorted(names, key=lambda name: name != first)


def fractions(task: TaskResults) -> list[float]:
    """The fractions of the training patients, ascending."""
    return sorted({fraction for _, fraction, _ in task.evaluations})


def predictions(task: TaskResults, model: str, *, fraction: float, population: str) -> pl.DataFrame:
    """Predictions over all sites of a population, ordered by seed and ECG."""
    sites = populations(task)[population]
    return pl.concat([task.evaluations[model, fraction, site].predictions() for site in sites]).sort("seed", "ecg_id")


def training_of(task: TaskResults, model: str, fraction: float) -> Mapping[str, Any]:
    """How a model was trained, as its evaluations state under `model`: the same at every site."""
    first = next(site for of, at, site in task.evaluations if (of, at) == (model, fraction))
    return task.evaluations[model, fraction, first].metrics()["model"]


def compute_cells(task: TaskResults, recipe: EvaluationRecipe) -> Cells:
    """Metrics by model, fraction and population: as stored for one site, computed for several sites together."""
    cells = {}
    for model, fraction in dict.fromkeys((model, fraction) for model, fraction, _ in task.evaluations):
        for population, sites in populations(task).items():
            first = task.evaluations[model, fraction, sites[0]]
            cells[model, fraction, population] = (
                first.evaluation_metrics()
                if len(sites) == 1
                else compute_metrics(
                    predictions(task, model, fraction=fraction, population=population),
                    first.thresholds(),
                    recipe,
                    reason=first.not_trained,
                )
            )
    return cells


def result_rows(task: TaskResults, cells: Cells) -> pl.DataFrame:
    """The numbers of a task, a row for each model, fraction and population; null where there is no such value.

    Metrics with an interval are means over the seeds, low and high the interval of the mean, sd that of the seeds.
    Calibration is the mean over the seeds, all of which must have one. `patient_` metrics count each patient once.
    What `start_words` says of a model stands in each of its rows.
    """
    rows = []
    for (model, fraction, population), computed in cells.items():
        metrics = computed.metrics
        about = training_of(task, model, fraction)
        row: dict[str, Any] = {
            "task": task.name,
            "model": model,
            "fraction": fraction,
            "site": population,
            "role": role(task, population),
            "seeds": len(about["seeds"]),
        }
        row |= {name: about[name] for name in ("initialisation", "optimistic", *TRAINED_ON)}
        row |= {name: about.get(name) for name in (*START_WORDS, *COST, "not_trained")}
        row |= {name: metrics[name] for name in ("ecgs", "patients", "positives")}
        row |= {metric.name: metrics[metric.name] for metric in METRICS if not metric.interval}
        row |= _intervals(metrics, "", ("low", "high", "sd"))
        row |= _intervals(metrics["patient_level"] or {}, "patient_", ("low", "high"))
        row |= _mean_calibration(metrics["calibration"])
        rows.append(row)
    return pl.DataFrame(rows, schema=RESULT_SCHEMA).sort("model", "fraction", maintain_order=True)


def difference_rows(task: TaskResults, first: str, recipe: EvaluationRecipe) -> pl.DataFrame:
    """The model `first` minus each other one on the same ECGs, by main population and fraction.

    Intervals and p values are those of the paired bootstrap, `delong_` those of DeLong's test for the AUROC. Where one
    of the two cannot be computed, its values are null and `reason` says why.
    """
    rows = []
    for population in main_populations(task):
        for fraction in fractions(task):
            ecgs, scores = by_ecg(predictions(task, first, fraction=fraction, population=population))
            labels, patients = ecgs["label"].to_numpy(), ecgs["patient"].to_numpy()
            for other in models(task, first)[1:]:
                same, others = by_ecg(predictions(task, other, fraction=fraction, population=population))
                assert same["ecg_id"].equals(ecgs["ecg_id"])  # all models are tested on one cohort
                row: dict[str, Any] = {"task": task.name, "site": population, "fraction": fraction}
                row |= {"model": first, "other": other, "ecgs": len(ecgs)}
                try:
                    if reason := _not_trained(task, (first, other), fraction):
                        raise ValueError(reason)
                    found = paired_difference(
                        labels, scores, others, patients=patients, draws=recipe.bootstrap_draws, seed=recipe.seed
                    )
                    for name, difference in found.items():
                        row |= {name: difference.value, **_ends(name, difference)}
                    row |= _ends("delong", delong(labels, scores, others, patients=patients))
                except ValueError as error:
                    row["reason"] = str(error)
                rows.append(row)
    return pl.DataFrame(rows, schema=DIFFERENCE_SCHEMA)


def _not_trained(task: TaskResults, names: Iterable[str], fraction: float) -> str | None:
    """Why one of some models was not trained, or None."""
    return next(filter(None, (training_of(task, name, fraction).get("not_trained") for name in names)), None)


def _intervals(metrics: Mapping[str, Any], prefix: str, spreads: tuple[str, ...]) -> dict[str, float | None]:
    found = {}
    for metric in WITH_INTERVAL:
        interval = metrics.get(metric.name) or {}
        found[f"{prefix}{metric.name}"] = interval.get("value")
        found |= {f"{prefix}{metric.name}_{spread}": interval.get(spread) for spread in spreads}
    return found


def _mean_calibration(by_seed: Mapping[str, Mapping[str, Any]]) -> dict[str, float | None]:
    if not by_seed or any("reason" in values for values in by_seed.values()):
        return dict.fromkeys(CALIBRATION)
    return {name: float(np.mean([values[name] for values in by_seed.values()])) for name in CALIBRATION}


def _ends(name: str, difference: Difference) -> dict[str, float]:
    return {f"{name}_low": difference.low, f"{name}_high": difference.high, f"{name}_p": difference.p}
