"""The metrics that a study reports. A new one is a function and a line of `METRICS`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from numpy.typing import NDArray

from ecg_pipeline.metrics import discrimination
from ecg_pipeline.metrics.counts import Counts, sort_scores


@dataclass(frozen=True)
class Metric:
    """A metric of one seed's counts; a model's value is the mean over its seeds.

    name: in files and columns. label: in words; short: for narrow columns, where it differs. compute: the value of one
    seed. interval: whether it has a bootstrap interval, and with it tables and figures by fraction, comparisons of
    models and a value by patient. digits: printed after the point. note: a sentence below the tables.
    """

    name: str
    label: str
    compute: Callable[[Counts], float]
    short: str = ""
    interval: bool = True
    digits: int = 2
    note: str = ""

    @property
    def heading(self) -> str:
        """The label for a narrow column."""
        return self.short or self.label

    def value(self, labels: NDArray, scores: NDArray) -> float:
        """The mean over seeds. labels: (N,). scores: (N,) or (S, N)."""
        return self.mean([seed.counts() for seed in sort_scores(labels, scores)])

    def mean(self, by_seed: Sequence[Counts]) -> float:
        """The mean over seeds, summed in their order: the same bits with every version of Python and NumPy."""
        total = self.compute(by_seed[0])
        for counts in by_seed[1:]:
            total += self.compute(counts)
        return total / len(by_seed)


@dataclass(frozen=True)
class ScoreMetric:
    """A metric of the scores of all ECGs and seeds at once, without an interval.

    compute: of labels (N,) and scores (N,) or (S, N). Otherwise as `Metric`.
    """

    name: str
    label: str
    compute: Callable[[NDArray, NDArray], float]
    digits: int = 2
    note: str = ""
    interval: ClassVar[bool] = False

    def value(self, labels: NDArray, scores: NDArray) -> float:
        """The value over all seeds. labels: (N,). scores: (N,) or (S, N)."""
        return self.compute(labels, scores)


AUROC = Metric("auroc", "AUROC", discrimination.auroc)

METRICS: tuple[Metric | ScoreMetric, ...] = (
    AUROC,
    Metric("average_precision", "AUPRC (average precision)", discrimination.average_precision, short="AUPRC"),
    Metric(
        "trapezoid_auprc",
        "AUPRC (trapezoid)",
        discrimination.trapezoid_auprc,
        interval=False,
        note="AUPRC (trapezoid) joins the curve's points by straight lines, which is optimistic.",
    ),
    ScoreMetric("brier", "Brier score", discrimination.brier, digits=3),
)
"""The reported metrics, the main one first: files, tables, figures and the Dagster UI follow from this table."""

WITH_INTERVAL = tuple(metric for metric in METRICS if isinstance(metric, Metric) and metric.interval)
