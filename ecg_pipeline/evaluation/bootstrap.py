"""Percentile intervals from a bootstrap over patients: all ECGs of a drawn patient come along.

A patient's ECGs are alike, so drawing ECGs one by one would make intervals too narrow.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.evaluation.metrics import auroc_and_average_precision, rank

BLOCK = 16
"""Draws worked on at once: bounds memory, changes no result."""


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile interval; draws that lacked one of the classes have no value and are counted."""

    value: float
    low: float
    high: float
    empty_draws: int


def patient_weights(patients: NDArray, draws: int, seed: int) -> Iterator[NDArray]:
    """Blocks (at most `BLOCK`, N) of how often each ECG's patient was drawn, `draws` in all."""
    _, place = np.unique(patients, return_inverse=True)
    count = int(place.max()) + 1
    rng = np.random.default_rng(seed)
    for first in range(0, draws, BLOCK):
        size = min(BLOCK, draws - first)
        drawn = rng.integers(0, count, (size, count))
        times = np.stack([np.bincount(row, minlength=count) for row in drawn])
        yield times[:, place]


def intervals(labels: NDArray, scores: NDArray, patients: NDArray, draws: int, seed: int) -> tuple[Interval, Interval]:
    """AUROC and average precision, each with its interval. Both classes must be there."""
    ranking = rank(labels, scores)
    drawn = [auroc_and_average_precision(ranking, weights) for weights in patient_weights(patients, draws, seed)]
    whole = auroc_and_average_precision(ranking)
    first, second = (
        _interval(float(value[0]), np.concatenate([block[which] for block in drawn]))
        for which, value in enumerate(whole)
    )
    return first, second


def paired_difference(
    labels: NDArray, one: NDArray, other: NDArray, patients: NDArray, draws: int, seed: int
) -> tuple[Interval, Interval]:
    """AUROC and average precision of `one` minus `other` on the same patients, drawn together."""
    rankings = rank(labels, one), rank(labels, other)
    metric: Callable = auroc_and_average_precision
    drawn = [
        [a - b for a, b in zip(metric(rankings[0], weights), metric(rankings[1], weights), strict=True)]
        for weights in patient_weights(patients, draws, seed)
    ]
    whole = [float(a[0] - b[0]) for a, b in zip(metric(rankings[0]), metric(rankings[1]), strict=True)]
    first, second = (
        _interval(value, np.concatenate([block[which] for block in drawn])) for which, value in enumerate(whole)
    )
    return first, second


def _interval(value: float, drawn: NDArray) -> Interval:
    kept = drawn[np.isfinite(drawn)]
    low, high = np.quantile(kept, [0.025, 0.975]) if len(kept) else (np.nan, np.nan)
    return Interval(value, float(low), float(high), len(drawn) - len(kept))
