"""Discrimination, exactly, with ties and with repeated ECGs; one pass over scores that were sorted once.

Scores of shape (S, N) are those of S trainings of one model that differ in their seed: a figure is the mean over them.
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """N ECGs in descending order of their scores, for each of S seeds.

    unit: (S, N) what each ECG counts with: itself, or its patient. positive: (S, N) bool. last: (S, N) bool, the last
    ECG of those with equal scores.
    """

    unit: NDArray[np.intp]
    positive: NDArray[np.bool_]
    last: NDArray[np.bool_]


def rank(labels: NDArray, scores: NDArray, units: NDArray | None = None) -> Ranking:
    """Sort once: every metric and every bootstrap draw uses the same order.

    labels: (N,) of 0 and 1. scores: (N,) or (S, N). units: (N,) from 0 to U - 1, by default each ECG's own place.
    Labels that are not both there, a score that is not finite and lengths that differ are a ValueError.
    """
    scores = np.atleast_2d(np.asarray(scores, np.float64))
    positive = np.asarray(labels).astype(bool)
    if scores.shape[1] != len(positive):
        raise ValueError(f"{len(positive)} labels do not fit scores of shape {scores.shape}")
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if positive.all() or not positive.any():
        raise ValueError("discrimination needs ECGs of both labels, and these have one alone")
    order = np.argsort(-scores, axis=1, kind="stable")
    ranked = np.take_along_axis(scores, order, axis=1)
    last = np.ones(order.shape, bool)
    last[:, :-1] = ranked[:, 1:] != ranked[:, :-1]
    return Ranking(order if units is None else np.asarray(units)[order], positive[order], last)


def auroc_and_average_precision(ranking: Ranking, times: NDArray[np.int64]) -> tuple[float, float]:
    """AUROC and average precision, means over seeds, when unit u counts `times[u]` times. times: (U,).

    AUROC is the probability that a positive outranks a negative, ties counting half; average precision is the sum of
    precision over steps of recall. Both are those of ECGs repeated so often, and NaN where that leaves one label alone.
    """
    return _areas(ranking.unit, ranking.positive, ranking.last, times)


@njit(cache=True, nogil=True)
def _areas(unit, positive, last, times):
    """Means over seeds of AUROC and average precision; counts stay whole numbers, so sums over ECGs are exact."""
    auroc, average = 0.0, 0.0
    for seed in range(unit.shape[0]):
        true, false, true_above, false_above = 0, 0, 0, 0
        half_pairs_wrong, precision = 0, 0.0
        for place in range(unit.shape[1]):
            count = times[unit[seed, place]]
            if positive[seed, place]:
                true += count
            else:
                false += count
            if last[seed, place]:
                if true > true_above:
                    half_pairs_wrong += (true - true_above) * (false_above + false)
                    precision += (true - true_above) * (true / (true + false))
                true_above, false_above = true, false
        if true == 0 or false == 0:
            return np.nan, np.nan
        half_pairs = 2 * true * false
        auroc += (half_pairs - half_pairs_wrong) / half_pairs
        average += precision / true
    return auroc / unit.shape[0], average / unit.shape[0]


def auroc(labels: NDArray, scores: NDArray) -> float:
    """Area under the ROC curve, mean over seeds."""
    return _counting_once(labels, scores)[0]


def average_precision(labels: NDArray, scores: NDArray) -> float:
    """Average precision, mean over seeds."""
    return _counting_once(labels, scores)[1]


def trapezoid_auprc(labels: NDArray, scores: NDArray) -> float:
    """Area under straight lines between the points of the precision-recall curve: what the paper reports.

    Optimistic, because precision does not move in straight lines; given beside average precision to compare with it.
    scores: (N,) or (S, N), mean over seeds.
    """
    curves = [precision_recall_curve(labels, row) for row in np.atleast_2d(scores)]
    return float(np.mean([np.trapezoid(precision, recall) for recall, precision in curves]))


def brier(labels: NDArray, scores: NDArray) -> float:
    """Mean squared difference of score and label, over ECGs and seeds."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels)) ** 2))


def counts_above(labels: NDArray, scores: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """The distinct scores (G,) of one seed, descending, and how many positives and negatives score at least so much."""
    ranking = rank(labels, scores)
    last = np.flatnonzero(ranking.last[0])
    true = ranking.positive[0].cumsum()[last]
    return np.asarray(scores, np.float64)[ranking.unit[0, last]], true, last + 1 - true


def roc_curve(labels: NDArray, scores: NDArray) -> tuple[NDArray, NDArray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1)."""
    _, true, false = counts_above(labels, scores)
    return np.r_[0, false / false[-1]], np.r_[0, true / true[-1]]


def precision_recall_curve(labels: NDArray, scores: NDArray) -> tuple[NDArray, NDArray]:
    """Recall and precision at every distinct score, from recall 0 (precision 1 by convention) to recall 1."""
    _, true, false = counts_above(labels, scores)
    return np.r_[0, true / true[-1]], np.r_[1, true / (true + false)]


def patient_places(patients: NDArray) -> NDArray[np.intp]:
    """(N,) each ECG's patient as its place among the sorted distinct patients. A missing one is a ValueError."""
    # polars sorts text four times as fast as numpy.
    places = pl.Series(patients).rank("dense")
    if places.null_count():
        raise ValueError(f"{places.null_count()} ECGs have no patient")
    return places.to_numpy().astype(np.intp) - 1


def patient_level(labels: NDArray, scores: NDArray, patients: NDArray) -> tuple[NDArray, NDArray, NDArray]:
    """Labels, scores and patients of the P patients in sorted order, for figures that count each patient once.

    A patient's score is the mean over all ECGs of the patient, its label 1 if any of them is positive.
    scores: (N,) or (S, N), which gives (P,) or (S, P).
    """
    places = patient_places(patients)
    ecgs = np.bincount(places)
    any_positive = np.bincount(places, np.asarray(labels)) > 0
    means = np.apply_along_axis(lambda row: np.bincount(places, row) / ecgs, -1, np.asarray(scores, np.float64))
    return any_positive.astype(np.int8), means, np.unique(patients)


def _counting_once(labels: NDArray, scores: NDArray) -> tuple[float, float]:
    return auroc_and_average_precision(rank(labels, scores), np.ones(len(labels), np.int64))
