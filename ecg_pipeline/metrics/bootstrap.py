"""Percentile intervals from a bootstrap over patients: a patient is sampled together with all of their ECGs.

A patient's ECGs are alike, so sampling ECGs one by one would make intervals too narrow.
(Paper: Fine-tuning and statistical analysis, 500 draws.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import SortedScores, patient_indices, sort_scores
from ecg_pipeline.metrics.table import WITH_INTERVAL, Metric


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile interval.

    empty_draws: draws without an ECG of one of the labels; they have no value.
    """

    value: float
    low: float
    high: float
    empty_draws: int


def patient_draws(patients: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draws of all patients with replacement: for each draw, how often it contains each patient, (patients,).

    Depends on the seed only, not on the machine.
    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(0, patients, patients), minlength=patients)


def intervals(
    labels: NDArray,
    scores: NDArray,
    patients: NDArray,
    *,
    draws: int,
    seed: int,
    metrics: Sequence[Metric] = WITH_INTERVAL,
) -> dict[str, Interval]:
    """Metrics with their intervals by name; by default all that have one.

    labels, patients: (N,). scores: (N,), or (S, N) of S seeds: then value and interval are those of the mean over the
    seeds, which all use the same draws. Labels that are all 0 or all 1 are a ValueError.
    """
    places = patient_indices(patients)
    by_seed, people = sort_scores(labels, scores, places), int(places.max()) + 1
    values = draw_values(metrics, by_seed, np.ones(people, np.int64))
    sampled = np.array([draw_values(metrics, by_seed, weights) for weights in patient_draws(people, draws, seed)])
    return {
        metric.name: percentile_interval(value, column)
        for metric, value, column in zip(metrics, values, sampled.T, strict=True)
    }


def draw_values(metrics: Sequence[Metric], by_seed: Sequence[SortedScores], weights: NDArray[np.int64]) -> list[float]:
    """Each metric of one draw, means over seeds; NaN where the draw lacks one of the labels.

    weights: (U,) how often the draw contains each patient.
    """
    counts = [seed.counts(weights) for seed in by_seed]
    if not counts[0].true[-1] or not counts[0].false[-1]:
        return [np.nan] * len(metrics)
    return [metric.mean(counts) for metric in metrics]


def percentile_interval(value: float, sampled: NDArray) -> Interval:
    """The middle 95 % of the sampled values that are finite; none at all is a ValueError."""
    finite = sampled[np.isfinite(sampled)]
    if not len(finite):
        raise ValueError(f"none of {len(sampled)} bootstrap draws holds both labels: too few patients for an interval")
    low, high = np.quantile(finite, [0.025, 0.975])
    return Interval(value, float(low), float(high), len(sampled) - len(finite))
