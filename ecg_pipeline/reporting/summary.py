"""The first screen of a page: which model is best, by how much, how sure that is, and what its pretraining saw."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import polars as pl

from ecg_pipeline.metrics.table import AUROC
from ecg_pipeline.reporting.comparisons import Subject, compare
from ecg_pipeline.reporting.estimate import Estimate

LEVEL = 0.05
"""Level of the corrected p value at which a difference is called one."""

ECGS_ALONE = "ECGs"
"""What the pretraining of a model saw that may be called label-efficient."""

Verdict = Literal["better", "worse", "open"]


@dataclass(frozen=True)
class Leader:
    """The model with the highest AUROC at a fraction, of so many `models`, or why none is called so.

    saw: what its pretraining saw.
    """

    fraction: float
    model: str | None
    estimate: Estimate
    models: int
    saw: str
    reason: str | None


@dataclass(frozen=True)
class Interval:
    """The bar of a forest plot, in per cent of its width."""

    left: float
    width: float
    point: float


@dataclass(frozen=True)
class ForestRow:
    """One planned comparison. bar, p, smallest: None where `reason` says why it was not made."""

    model: str
    other: str
    saw: str
    estimate: Estimate
    p: float | None
    smallest: float | None
    bar: Interval | None
    verdict: Verdict
    reason: str | None


@dataclass(frozen=True)
class Finding:
    """Which models are better or worse than what they are compared with, or cannot be told apart from it; with the
    fractions at which that is so."""

    words: str
    better: list[str]
    worse: list[str]
    open: list[str]


@dataclass(frozen=True)
class PopulationSummary:
    """One population.

    leaders: by fraction, the largest first. label_efficient: models whose pretraining saw ECGs alone and that are
    better than everything that they are compared with at a fraction below 1; None where no such model is compared
    there. read_answers: the other models at such fractions, and what their pretraining saw. smallest: range of the
    differences that would have been seen. forest: rows by fraction, the largest first.
    """

    heading: str
    leaders: list[Leader]
    findings: list[Finding]
    label_efficient: list[str] | None
    read_answers: list[str]
    smallest: tuple[float, float] | None
    forest: Mapping[float, list[ForestRow]]


@dataclass(frozen=True)
class Summary:
    """The first screen of one subject. zero, ticks: of the axis of its forest plot, places in per cent and numbers."""

    name: str
    title: str
    populations: list[PopulationSummary]
    comparisons: int
    draws: int
    seeds: int
    zero: float
    ticks: list[tuple[float, float]]
    table: pl.DataFrame


def summary_of(subject: Subject, results: pl.DataFrame, headings: Mapping[str, str]) -> Summary:
    """The summary of a subject. results: rows of `results.parquet` of its tasks. headings: populations in words."""
    table = compare(subject)
    axis = _Axis.over(table)
    return Summary(
        name=subject.name,
        title=subject.title,
        populations=[
            _population(subject, results, table.filter(site=name), name, headings[name], axis)
            for name in subject.populations
        ],
        comparisons=table["p"].drop_nulls().len(),
        draws=subject.draws,
        seeds=int(results["seeds"].to_numpy().max()),
        zero=axis.place(0),
        ticks=axis.ticks(),
        table=table,
    )


def _population(
    subject: Subject, results: pl.DataFrame, table: pl.DataFrame, name: str, heading: str, axis: "_Axis"
) -> PopulationSummary:
    largest_first = subject.fractions[::-1]
    small = table.filter(pl.col("fraction") < 1)
    alone = dict.fromkeys(small.filter(pretraining_saw=ECGS_ALONE)["model"])
    smallest = table["smallest"].drop_nulls()
    return PopulationSummary(
        heading=heading,
        leaders=[_leader(subject, results, name, fraction) for fraction in largest_first],
        findings=list(_findings(table)),
        label_efficient=[model for model in alone if _beats_all(small.filter(model=model))] if alone else None,
        read_answers=[
            f"{model} ({saw})"
            for model, saw in small.select("model", "pretraining_saw").unique(maintain_order=True).iter_rows()
            if saw != ECGS_ALONE
        ],
        smallest=(smallest.to_numpy().min(), smallest.to_numpy().max()) if len(smallest) else None,
        forest={
            fraction: [_forest_row(row, axis) for row in table.filter(fraction=fraction).iter_rows(named=True)]
            for fraction in largest_first
        },
    )


def _leader(subject: Subject, results: pl.DataFrame, population: str, fraction: float) -> Leader:
    """The best model by the mean of its AUROCs over the subject's tasks."""
    reasons = {model: subject.unranked(model, fraction) for model in subject.models}
    ranked = [model for model, reason in reasons.items() if reason is None]
    rows = results.filter(pl.col("model").is_in(ranked), site=population, fraction=fraction).drop_nulls(AUROC.name)
    means = rows.group_by("model", maintain_order=True).agg(
        pl.len(), pl.col(AUROC.name, "auroc_low", "auroc_high").mean(), pl.col("pretraining_saw").first()
    )
    means = means.filter(pl.col("len") == len(subject.tasks))
    if means.is_empty():
        reason = next(filter(None, reasons.values()), "no AUROC could be computed")
        return Leader(fraction, None, Estimate(None, None, None), 0, "", reason)
    row = means.sort(AUROC.name, descending=True, maintain_order=True).row(0, named=True)
    first = row["model"]
    if len(subject.tasks) == 1:
        found = Estimate(row[AUROC.name], row["auroc_low"], row["auroc_high"])
    else:
        interval = subject.interval(first, fraction, population)
        found = Estimate(interval.value, interval.low, interval.high)
    return Leader(fraction, first, found, len(means), row["pretraining_saw"] or "", None)


def _findings(table: pl.DataFrame) -> Iterator[Finding]:
    """One finding for each thing that models are compared with."""
    for against, words in (("baseline", "Against {}"), ("nothing", "Against no pretraining")):
        rows = table.filter(pl.col("p").is_not_null(), against=against).sort(
            "fraction", descending=True, maintain_order=True
        )
        if rows.is_empty():
            continue
        said: dict[Verdict, dict[str, list[float]]] = {"better": {}, "worse": {}, "open": {}}
        for row in rows.iter_rows(named=True):
            said[_verdict(row)].setdefault(row["model"], []).append(row["fraction"])
        yield Finding(words.format(rows["other"][0]), *(_with_fractions(models) for models in said.values()))


def _with_fractions(models: Mapping[str, Sequence[float]]) -> list[str]:
    """Models with the fractions at which something is said of them, those of the same fractions together."""
    together: dict[tuple[float, ...], list[str]] = {}
    for model, fractions in models.items():
        together.setdefault(tuple(fractions), []).append(model)
    return [
        f"{', '.join(names)} at {' and '.join(f'{100 * at:g} %' for at in fractions)}"
        for fractions, names in together.items()
    ]


def _beats_all(rows: pl.DataFrame) -> bool:
    """Whether a model is better, at one fraction, than everything that it is compared with there."""
    return any(
        all(_verdict(row) == "better" for row in at.iter_rows(named=True)) for _, at in rows.group_by("fraction")
    )


def _verdict(row: Mapping[str, Any]) -> Verdict:
    if row["p_holm"] is None or row["p_holm"] > LEVEL:
        return "open"
    return "better" if row["difference"] > 0 else "worse"


def _forest_row(row: Mapping[str, Any], axis: "_Axis") -> ForestRow:
    bar = None
    if row["difference"] is not None:
        left = axis.place(row["low"])
        bar = Interval(left, axis.place(row["high"]) - left, axis.place(row["difference"]))
    return ForestRow(
        model=row["model"],
        other=row["other"],
        saw=row["pretraining_saw"] or "",
        estimate=Estimate(row["difference"], row["low"], row["high"]),
        p=row["p_holm"],
        smallest=row["smallest"],
        bar=bar,
        verdict=_verdict(row),
        reason=row["reason"],
    )


@dataclass(frozen=True)
class _Axis:
    """The axis of differences, which holds 0."""

    low: float
    high: float

    @classmethod
    def over(cls, table: pl.DataFrame) -> "_Axis":
        """Over all intervals, with a margin."""
        ends = [0.0, *table["low"].drop_nulls(), *table["high"].drop_nulls()]
        margin = 0.06 * (max(ends) - min(ends)) or 0.01
        return cls(min(ends) - margin, max(ends) + margin)

    def place(self, value: float) -> float:
        """A value in per cent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)

    def ticks(self) -> list[tuple[float, float]]:
        """Round values within the axis, about four steps apart, with their places."""
        wanted = (self.high - self.low) / 4
        step = next(size for size in (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if size >= wanted or size == 0.5)
        numbers = range(int(self.low / step) - 1, int(self.high / step) + 2)
        return [(self.place(n * step), n * step) for n in numbers if self.low <= n * step <= self.high]
