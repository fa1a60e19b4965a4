"""What a metric would have been with other patients and other seeds: bootstrap draws of both, for planned comparisons.

A model is one network per seed, and its seed decides everything random about it: initial weights and order of batches
of its pretraining and of its fine-tuning. Whether a *method* is better is a question about networks of other seeds,
too, so each draw takes patients, and of each model seeds. The metric is that of single networks, averaged over the
seeds of a draw: the mean of several networks' scores would be another, better model, which nobody proposes to use.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.metrics.bootstrap import Interval, patient_draws, percentile_interval
from ecg_pipeline.metrics.comparisons import Difference, bootstrap_difference
from ecg_pipeline.metrics.counts import patient_indices, sort_scores
from ecg_pipeline.metrics.table import AUROC, Metric


@dataclass(frozen=True, eq=False)
class Scored:
    """The ECGs of a task with the scores of one model. labels, patients: (N,). scores: (S, N), one row a seed."""

    labels: NDArray
    scores: NDArray
    patients: NDArray


@dataclass(frozen=True, eq=False)
class Resampled:
    """A model's metric, and what it is in each draw (draws,), NaN where a draw lacks one of the labels."""

    value: float
    sampled: NDArray[np.float64]

    def interval(self) -> Interval:
        """The 95 % percentile interval."""
        return percentile_interval(self.value, self.sampled)

    def minus(self, other: "Resampled") -> Difference:
        """The difference to another model on the same draws of patients, with interval and p as `paired_difference`."""
        return bootstrap_difference(self.value - other.value, self.sampled - other.sampled)

    def error_of_difference(self, other: "Resampled") -> float:
        """The standard error of the difference: the standard deviation over the draws."""
        return float(np.nanstd(self.sampled - other.sampled, ddof=1))


def resample(tasks: Sequence[Scored], *, draws: int, seed: int, model: str, metric: Metric = AUROC) -> Resampled:
    """A model's metric, the mean over one or several tasks, in draws of patients and of the model's seeds.

    Models of the same tasks and `seed` get the same draws of patients, which are drawn over all tasks together: a
    patient is in a draw with all ECGs in all tasks. model: its name, from which the draws of its own seeds follow, so
    that those of two models are independent. Of S seeds, S - 1 are drawn with replacement: as many as S would show
    (S - 1) / S of the variance of their mean, which for three seeds is a third too little (McCarthy and Snowden 1985;
    Rao and Wu 1988). What a seed gets right with some patients alone is counted in both drawings, so that intervals are
    rather too wide than too narrow (Owen 2007). The luck of a single seed cannot be seen, and is not in the draws.
    Labels that are all 0 or all 1 are a ValueError.
    """
    places = np.split(
        patient_indices(np.concatenate([task.patients for task in tasks])),
        np.cumsum([len(task.patients) for task in tasks])[:-1],
    )
    people = 1 + max(int(of_task.max()) for of_task in places)
    sorted_scores = [sort_scores(one.labels, one.scores, units) for one, units in zip(tasks, places, strict=True)]

    def by_seed(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        """(S,) the metric of each seed, the mean over the tasks."""
        counts = [[one.counts(weights) for one in of_task] for of_task in sorted_scores]
        if any(not of_task[0].true[-1] or not of_task[0].false[-1] for of_task in counts):
            return np.full(len(counts[0]), np.nan)
        return np.mean([[metric.compute(one) for one in of_task] for of_task in counts], axis=0)

    values = by_seed(np.ones(people, np.int64))
    sampled = np.array([by_seed(weights) for weights in patient_draws(people, draws, seed)])
    rng, seeds = np.random.default_rng([seed, *model.encode()]), len(values)
    chosen = rng.integers(0, seeds, (draws, max(1, seeds - 1)))
    return Resampled(float(values.mean()), np.take_along_axis(sampled, chosen, axis=1).mean(axis=1))
