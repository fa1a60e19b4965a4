"""Discrimination, exactly, with ties and with weights; one pass over scores that were sorted once."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Ranking:
    """Labels in descending order of their scores, with the bounds of groups of equal scores.

    order: (N,) places of the ECGs. starts: (G,) first place of each group. positive: (N,) bool in that order.
    """

    order: NDArray[np.intp]
    starts: NDArray[np.intp]
    positive: NDArray[np.bool_]


def rank(labels: NDArray, scores: NDArray) -> Ranking:
    """Sort once; every metric and every bootstrap draw uses the same order. NaN scores are a ValueError."""
    scores = np.asarray(scores, np.float64)
    if np.isnan(scores).any():
        raise ValueError("a score is NaN")
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) != 0])
    return Ranking(order, starts, np.asarray(labels)[order].astype(bool))


def auroc_and_average_precision(ranking: Ranking, weights: NDArray | None = None) -> tuple[NDArray, NDArray]:
    """AUROC and average precision for each row of weights (draws, N); NaN where a class has no weight.

    AUROC is the probability that a positive outranks a negative, ties counting half; average precision is the sum of
    precision over steps of recall. Without weights every ECG counts once and the results have shape (1,).
    """
    positive, negative = _group_weights(ranking, weights)
    true, false = positive.cumsum(axis=1), negative.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        below = false[:, -1:] - false + negative / 2
        auroc = (positive * below).sum(axis=1) / (true[:, -1] * false[:, -1])
        precision = np.nan_to_num(true / (true + false))
        average = (positive * precision).sum(axis=1) / true[:, -1]
    return auroc, average


def auroc(labels: NDArray, scores: NDArray) -> float:
    """Area under the ROC curve."""
    return float(auroc_and_average_precision(rank(labels, scores))[0][0])


def average_precision(labels: NDArray, scores: NDArray) -> float:
    """Average precision."""
    return float(auroc_and_average_precision(rank(labels, scores))[1][0])


def trapezoid_auprc(labels: NDArray, scores: NDArray) -> float:
    """Area under straight lines between the points of the precision-recall curve: what the paper reports.

    Optimistic, because precision does not move in straight lines; given beside average precision to compare with it.
    """
    recall, precision = precision_recall_curve(labels, scores)
    return float(np.trapezoid(precision, recall))


def roc_curve(labels: NDArray, scores: NDArray) -> tuple[NDArray, NDArray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1)."""
    positive, negative = _group_weights(rank(labels, scores), None)
    true, false = np.r_[0, positive[0].cumsum()], np.r_[0, negative[0].cumsum()]
    return false / false[-1], true / true[-1]


def precision_recall_curve(labels: NDArray, scores: NDArray) -> tuple[NDArray, NDArray]:
    """Recall and precision at every distinct score, from recall 0 (precision 1 by convention) to recall 1."""
    positive, negative = _group_weights(rank(labels, scores), None)
    true, false = positive[0].cumsum(), negative[0].cumsum()
    return np.r_[0, true / true[-1]], np.r_[1, true / (true + false)]


def brier(labels: NDArray, scores: NDArray) -> float:
    """Mean squared difference of score and label."""
    return float(np.mean((np.asarray(scores, np.float64) - np.asarray(labels)) ** 2))


def _group_weights(ranking: Ranking, weights: NDArray | None) -> tuple[NDArray, NDArray]:
    """(draws, G) weight of the positives and of the negatives in each group of equal scores."""
    ordered = np.ones((1, len(ranking.order))) if weights is None else weights[:, ranking.order].astype(np.float64)
    every = np.add.reduceat(ordered, ranking.starts, axis=1)
    positive = np.add.reduceat(ordered * ranking.positive, ranking.starts, axis=1)
    return positive, every - positive
