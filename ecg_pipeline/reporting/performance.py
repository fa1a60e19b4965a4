"""Tables of the performance of a task's models, and of the differences between them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ecg_pipeline.metrics.table import AUROC, METRICS, WITH_INTERVAL, Metric
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.comparisons import FEWEST_POSITIVES, ranks
from ecg_pipeline.reporting.estimate import Estimate, estimate
from ecg_pipeline.reporting.results import EvaluationKey

Rows = Mapping[EvaluationKey, Mapping[str, Any]]
"""Rows of `results.parquet` of one task, by model, fraction and population."""


COMPARISON_HEADINGS = tuple(
    heading
    for metric in WITH_INTERVAL
    for heading in (f"{metric.heading} difference", "p", *(("by DeLong", "p") if metric is AUROC else ()))
)
"""Columns of `ComparedModel.comparisons`."""


@dataclass(frozen=True)
class Cell:
    """A metric of one model at one fraction.

    sd: standard deviation over the seeds, None for one seed. rank: among the models, None where they are not ranked.
    not_trained: why there is no value.
    """

    estimate: Estimate
    sd: float | None
    rank: int | None
    not_trained: str | None


@dataclass(frozen=True)
class ModelRow:
    """One model in the table of a metric, a cell for each fraction."""

    model: str
    cells: list[Cell]


@dataclass(frozen=True)
class Block:
    """The models on one population, which is named in words and counted."""

    population: str
    rows: list[ModelRow]
    ecgs: int
    patients: int
    positives: int

    @property
    def untrained(self) -> list[str | None]:
        """For each fraction, why none of its models was trained; None if any was, or if the reasons differ."""
        columns = (
            {cell.not_trained for cell in column} for column in zip(*(row.cells for row in self.rows), strict=True)
        )
        return [next(iter(reasons)) if len(reasons) == 1 else None for reasons in columns]


@dataclass(frozen=True)
class Trained:
    """Numbers of patients, ECGs and positive ECGs that the models of one fraction were trained on.

    is_ranked: whether there are enough positive ones for an order of models to mean something.
    """

    patients: int
    ecgs: int
    positives: int

    @property
    def is_ranked(self) -> bool:
        """Whether models are ranked."""
        return self.positives >= FEWEST_POSITIVES


@dataclass(frozen=True)
class Measured:
    """A number of the table of further measures: with an interval if it has one, else only `value`."""

    estimate: Estimate
    digits: int


@dataclass(frozen=True)
class Measures:
    """Further measures of the models that saw all training patients: column headings, and rows by population."""

    headings: list[str]
    notes: list[str]
    blocks: Mapping[str, Mapping[str, list[Measured]]]


@dataclass(frozen=True)
class Comparison:
    """One metric of the first model minus that of another. delong: interval by DeLong's test, of the AUROC only."""

    estimate: Estimate
    p: float | None
    delong: Estimate | None
    delong_p: float | None


@dataclass(frozen=True)
class ComparedModel:
    """The first model minus another at one fraction, for each metric with an interval, or why that is missing."""

    other: str
    fraction: float
    comparisons: list[Comparison]
    reason: str | None


def rows_by_evaluation(results: pl.DataFrame) -> Rows:
    """Rows of a task's results by model, fraction and population."""
    return {(row["model"], row["fraction"], row["site"]): row for row in results.iter_rows(named=True)}


def metric_blocks(
    metric: Metric, rows: Rows, *, models: list[str], fractions: list[float], populations: Mapping[str, str]
) -> list[Block]:
    """The table of a metric by the fraction of the training patients. populations: in words, by name."""
    ranked = {
        (fraction, name): dict(ranks({model: _ranked(rows[model, fraction, name], metric) for model in models}))
        for fraction in fractions
        for name in populations
    }
    return [
        Block(
            words,
            [
                ModelRow(
                    model,
                    [
                        _cell(rows[model, fraction, name], metric, rank=ranked[fraction, name].get(model))
                        for fraction in fractions
                    ],
                )
                for model in models
            ],
            **{count: rows[models[0], fractions[-1], name][count] for count in ("ecgs", "patients", "positives")},
        )
        for name, words in populations.items()
    ]


def trained_on(rows: Rows, *, model: str, fractions: list[float], population: str) -> list[Trained]:
    """Training patients and their positive ECGs, of each fraction."""
    found = [rows[model, fraction, population] for fraction in fractions]
    return [Trained(row["train_patients"], row["train_ecgs"], row["train_positives"]) for row in found]


def further_measures(rows: Rows, *, models: list[str], largest: float, populations: Mapping[str, str]) -> Measures:
    """Measures not in the tables by fraction: metrics by patient, those without an interval, and calibration."""
    headings = [f"{metric.heading} by patient" for metric in WITH_INTERVAL]
    headings += [metric.label for metric in METRICS if not metric.interval]
    headings += ["Calibration slope", "Intercept", "In the large"]
    blocks = {
        words: {model: list(_measured(rows[model, largest, name])) for model in models}
        for name, words in populations.items()
    }
    return Measures(headings, [metric.note for metric in METRICS if metric.note], blocks)


def compared_models(differences: pl.DataFrame, population: str) -> list[ComparedModel]:
    """Rows of `differences.parquet` of one population."""
    return [
        ComparedModel(
            row["other"],
            row["fraction"],
            [_comparison(row, metric) for metric in WITH_INTERVAL],
            row["reason"],
        )
        for row in differences.filter(site=population).iter_rows(named=True)
    ]


def missing_values(cells: tables.Cells) -> list[str]:
    """Why metrics are missing, each reason once with the first model, fraction and population that it applies to."""
    found: dict[str, str] = {}
    for (model, fraction, population), computed in cells.items():
        where, metrics = f"{model} at {100 * fraction:g} % on {population}", computed.metrics
        calibration = [f"calibration: {v['reason']}" for v in metrics["calibration"].values() if "reason" in v]
        patients = (metrics["patient_level"] or {}).get("reason")
        for reason in (metrics.get("reason"), patients and f"by patient: {patients}", *calibration):
            if reason:
                found.setdefault(reason, where)
    return [f"{where}: {reason}" for reason, where in found.items()]


def _cell(row: Mapping[str, Any], metric: Metric, *, rank: int | None) -> Cell:
    return Cell(estimate(row, metric.name), row[f"{metric.name}_sd"], rank, row["not_trained"])


def _ranked(row: Mapping[str, Any], metric: Metric) -> float | None:
    """The value that a model is ranked by; None if it is not."""
    return row[metric.name] if row["train_positives"] >= FEWEST_POSITIVES else None


def _measured(row: Mapping[str, Any]) -> Iterator[Measured]:
    for metric in WITH_INTERVAL:
        yield Measured(estimate(row, f"patient_{metric.name}"), metric.digits)
    for metric in METRICS:
        if not metric.interval:
            yield Measured(Estimate(row[metric.name], None, None), metric.digits)
    for name in tables.CALIBRATION:
        yield Measured(Estimate(row[name], None, None), 2)


def _comparison(row: Mapping[str, Any], metric: Metric) -> Comparison:
    delong = Estimate(row[metric.name], row["delong_low"], row["delong_high"]) if metric is AUROC else None
    return Comparison(
        estimate(row, metric.name), row[f"{metric.name}_p"], delong, row["delong_p"] if metric is AUROC else None
    )
