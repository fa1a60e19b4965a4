"""Cumulative counts of positive and negative ECGs by score, from which all metrics of discrimination are computed.

Scores are sorted once. A bootstrap draw weights each ECG by how often it contains the patient, in one pass.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Counts:
    """Cumulative counts at the G distinct scores of one seed.

    score: (G,) descending. true, false: (G,) positive and negative ECGs with at least that score; integers, so the last
    ones are the numbers of all positives and negatives, both of which are positive. In a bootstrap draw neighbouring
    counts may be equal, and the first ones may be zero.
    """

    score: NDArray[np.float64]
    true: NDArray[np.int64]
    false: NDArray[np.int64]


@dataclass(frozen=True)
class SortedScores:
    """N ECGs of one seed in descending order of their scores.

    unit: (N,) index of the unit whose weight each ECG gets: the ECG itself, or its patient. positive, last: (N,) bool;
    `last` is the last ECG of those with equal scores. score: (G,) the distinct scores, descending.
    """

    unit: NDArray[np.intp]
    positive: NDArray[np.bool_]
    last: NDArray[np.bool_]
    score: NDArray[np.float64]

    def counts(self, weights: NDArray[np.int64] | None = None) -> Counts:
        """The counts when unit u counts `weights[u]` times (U,), by default once."""
        from ecg_pipeline.metrics.kernels import cumulate

        weights = np.ones(int(self.unit.max()) + 1, np.int64) if weights is None else weights
        return Counts(self.score, *cumulate(self.unit, self.positive, self.last, weights, len(self.score)))


def sort_scores(labels: NDArray, scores: NDArray, units: NDArray | None = None) -> list[SortedScores]:
    """Sort the scores of each seed, once for all metrics and bootstrap draws.

    labels: (N,) of 0 and 1. scores: (N,), or (S, N) of S seeds. units: (N,) from 0 to U - 1, by default one per ECG.
    Labels that are all 0 or all 1, a score that is not finite and lengths that differ are a ValueError.
    """
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    positive = np.asarray(labels).astype(bool)
    if scores.shape[1] != len(positive):
        raise ValueError(f"{len(positive)} labels do not fit scores of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if positive.all() or not positive.any():
        raise ValueError("discrimination needs ECGs of both labels, and these have one alone")
    return [_sorted(positive, row, np.arange(len(row)) if units is None else np.asarray(units)) for row in scores]


def _sorted(positive: NDArray[np.bool_], scores: NDArray[np.float64], units: NDArray) -> SortedScores:
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last = np.r_[ranked[1:] != ranked[:-1], True]
    return SortedScores(units[order], positive[order], last, ranked[last])


def counts(labels: NDArray, scores: NDArray) -> Counts:
    """The counts of one seed's scores. labels, scores: (N,), checked as by `sort_scores`."""
    return sort_scores(labels, scores)[0].counts()


def patient_indices(patients: NDArray) -> NDArray[np.intp]:
    """(N,) index of each ECG's patient among the sorted distinct patients. A missing patient is a ValueError."""
    # polars sorts text four times as fast as numpy.
    places = pl.Series(patients).rank("dense")
    if places.null_count():
        raise ValueError(f"{places.null_count()} ECGs have no patient")
    return places.to_numpy().astype(np.intp) - 1


def patient_level(labels: NDArray, scores: NDArray, patients: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Labels, scores and patients of the P patients in sorted order, for metrics that count each patient once.

    A patient's score is the mean over all ECGs of the patient, its label 1 if any of them is positive.
    scores: (N,) or (S, N), which gives (P,) or (S, P).
    """
    places = patient_indices(patients)
    ecgs = np.bincount(places)
    any_positive = np.bincount(places, np.asarray(labels)) > 0
    means = np.apply_along_axis(lambda row: np.bincount(places, row) / ecgs, -1, np.asarray(scores, np.float64))
    return any_positive.astype(np.int8), means, np.unique(patients)
