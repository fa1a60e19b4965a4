"""Metrics of how well scores separate positive from negative ECGs, each of one seed's counts; ties are exact."""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import Counts


def auroc(counts: Counts) -> float:
    """Area under the ROC curve: the probability that a positive outscores a negative, ties counting half."""
    return _auroc(counts.true, counts.false)


def average_precision(counts: Counts) -> float:
    """Average precision: the sum of precision over steps of recall."""
    return _average_precision(counts.true, counts.false)


def trapezoid_auprc(counts: Counts) -> float:
    """Area under straight lines between the points of the precision-recall curve.

    Optimistic, because precision does not move in straight lines; given to compare with papers that print it.
    """
    recall, precision = precision_recall_curve(counts)
    return float(np.trapezoid(precision, recall))


def brier(labels: NDArray, scores: NDArray) -> float:
    """Mean squared difference of score and label, over ECGs and seeds. labels: (N,). scores: (N,) or (S, N)."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels)) ** 2))


def roc_curve(counts: Counts) -> tuple[NDArray, NDArray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1)."""
    return np.r_[0, counts.false / counts.false[-1]], np.r_[0, counts.true / counts.true[-1]]


def precision_recall_curve(counts: Counts) -> tuple[NDArray, NDArray]:
    """Recall and precision at every distinct score, from recall 0 (precision 1 by convention) to recall 1."""
    return np.r_[0, counts.true / counts.true[-1]], np.r_[1, counts.true / (counts.true + counts.false)]


@njit(cache=True, nogil=True)
def _auroc(true, false):
    """Counts stay whole numbers until the last division, so the sum over pairs is exact."""
    half_pairs_wrong, true_above, false_above = 0, 0, 0
    for group in range(len(true)):
        half_pairs_wrong += (true[group] - true_above) * (false_above + false[group])
        true_above, false_above = true[group], false[group]
    half_pairs = 2 * true_above * false_above
    return (half_pairs - half_pairs_wrong) / half_pairs


@njit(cache=True, nogil=True)
def _average_precision(true, false):
    precision, true_above = 0.0, 0
    for group in range(len(true)):
        if true[group] > true_above:
            precision += (true[group] - true_above) * (true[group] / (true[group] + false[group]))
            true_above = true[group]
    return precision / true_above
