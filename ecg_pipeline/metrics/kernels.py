"""Compiled inner loops of the metrics, run once per bootstrap draw. Callers import them when called: Numba is slow."""

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def cumulate(unit, positive, last, weights, distinct):
    """Weighted numbers of positives and negatives (G,) down to each distinct score; without branches, for speed."""
    cumulated_true, cumulated_false = np.empty(distinct, np.int64), np.empty(distinct, np.int64)
    true, false, group = 0, 0, 0
    for place in range(len(unit)):
        weight = weights[unit[place]]
        true += weight * positive[place]
        false += weight * (not positive[place])
        cumulated_true[group], cumulated_false[group] = true, false
        group += last[place]
    return cumulated_true, cumulated_false


@njit(cache=True, nogil=True)
def auroc_of_counts(true, false):
    """AUROC from cumulative counts (G,): whole numbers until the last division, so the sum over pairs is exact."""
    half_pairs_wrong, true_above, false_above = 0, 0, 0
    for group in range(len(true)):
        half_pairs_wrong += (true[group] - true_above) * (false_above + false[group])
        true_above, false_above = true[group], false[group]
    half_pairs = 2 * true_above * false_above
    return (half_pairs - half_pairs_wrong) / half_pairs


@njit(cache=True, nogil=True)
def average_precision_of_counts(true, false):
    """Average precision from cumulative counts (G,), summed from the highest score down."""
    precision, true_above = 0.0, 0
    for group in range(len(true)):
        if true[group] > true_above:
            precision += (true[group] - true_above) * (true[group] / (true[group] + false[group]))
            true_above = true[group]
    return precision / true_above
