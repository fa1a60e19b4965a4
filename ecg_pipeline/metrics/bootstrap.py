"""Percentile intervals from a bootstrap over patients: all ECGs of a drawn patient come along.

A patient's ECGs are alike, so drawing ECGs one by one would make intervals too narrow.
(Paper: Fine-tuning and statistical analysis, 500 draws.)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.metrics.discrimination import auroc_and_average_precision, patient_places, rank


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile interval; draws that lacked one of the classes have no value and are counted."""

    value: float
    low: float
    high: float
    empty_draws: int


def patient_draws(patients: int, draws: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """For each draw of as many patients as there are, with replacement: (patients,) how often each was drawn.

    Depends on the seed alone, not on the machine.
    """
    rng = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(rng.integers(0, patients, patients), minlength=patients)


def intervals(labels: NDArray, scores: NDArray, patients: NDArray, draws: int, seed: int) -> tuple[Interval, Interval]:
    """AUROC and average precision, each with its interval.

    labels, patients: (N,). scores: (N,), or (S, N) of S seeds: then value and interval are those of the mean over the
    seeds, all of which see the same draw. Labels that are not both there are a ValueError.
    """
    places = patient_places(patients)
    ranking, count = rank(labels, scores, places), int(places.max()) + 1
    auroc, precision = auroc_and_average_precision(ranking, np.ones(count, np.int64))
    drawn = np.array([auroc_and_average_precision(ranking, times) for times in patient_draws(count, draws, seed)])
    return percentile_interval(auroc, drawn[:, 0]), percentile_interval(precision, drawn[:, 1])


def percentile_interval(value: float, drawn: NDArray) -> Interval:
    """The middle 95 % of the drawn values that are finite; none at all is a ValueError."""
    kept = drawn[np.isfinite(drawn)]
    if not len(kept):
        raise ValueError(f"none of {len(drawn)} bootstrap draws holds both labels: too few patients for an interval")
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(value, float(low), float(high), len(drawn) - len(kept))
