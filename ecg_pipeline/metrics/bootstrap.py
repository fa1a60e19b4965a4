"""Percentile intervals from a bootstrap over patients: all ECGs of a sampled patient come along.

A patient's ECGs are alike, so sampling ECGs one by one would make intervals too narrow.
(Paper: Fine-tuning and statistical analysis, 500 draws.)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import Sorted, patient_places, sort_scores
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
    """For each draw of as many patients as there are, with replacement: (patients,) how often it holds each.

    Depends on the seed alone, not on the machine.
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
    seeds, all of which see the same draw. Labels that are not both there are a ValueError.
    """
    places = patient_places(patients)
    by_seed, people = sort_scores(labels, scores, places), int(places.max()) + 1
    values = draw_values(metrics, by_seed, np.ones(people, np.int64))
    sampled = np.array([draw_values(metrics, by_seed, weights) for weights in patient_draws(people, draws, seed)])
    return {
        metric.name: percentile_interval(value, column)
        for metric, value, column in zip(metrics, values, sampled.T, strict=True)
    }


def draw_values(metrics: Sequence[Metric], by_seed: Sequence[Sorted], weights: NDArray[np.int64]) -> list[float]:
    """Each metric of one draw, means over seeds; NaN where the draw lacks one of the labels.

    weights: (U,) how often the draw holds each patient.
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
