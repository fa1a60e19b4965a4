"""Metrics of discrimination from one seed's counts, with ties handled exactly, and the Brier score."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import Counts


def auroc(counts: Counts) -> float:
    """Area under the ROC curve: the probability that a positive outscores a negative, ties counting half."""
    from ecg_pipeline.metrics.kernels import auroc_of_counts

    return auroc_of_counts(counts.true, counts.false)


def average_precision(counts: Counts) -> float:
    """Average precision: the sum of precision over steps of recall."""
    from ecg_pipeline.metrics.kernels import average_precision_of_counts

    return average_precision_of_counts(counts.true, counts.false)


def trapezoid_auprc(counts: Counts) -> float:
    """Area under straight lines between the points of the precision-recall curve.

    Optimistic, because precision between two points is not linear in recall; for comparison with papers that report it.
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
