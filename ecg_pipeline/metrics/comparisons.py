"""Comparison of two models on the same patients: the difference of their metrics with its interval and p value.

The paper compares models by whether intervals overlap, which is neither a test nor powerful: the patients are the same,
so most of what moves one model in a bootstrap draw moves the other too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from ecg_pipeline.metrics.bootstrap import draw_values, patient_draws, percentile_interval
from ecg_pipeline.metrics.counts import patient_indices, sort_scores
from ecg_pipeline.metrics.table import WITH_INTERVAL, Metric


@dataclass(frozen=True)
class Difference:
    """One model's metric minus the other's, with its 95 % interval and the two-sided p value of no difference.

    empty_draws: bootstrap draws without an ECG of one of the labels; they have no value.
    """

    value: float
    low: float
    high: float
    p: float
    empty_draws: int = 0


def paired_difference(
    labels: NDArray,
    one: NDArray,
    other: NDArray,
    *,
    patients: NDArray,
    draws: int,
    seed: int,
    metrics: Sequence[Metric] = WITH_INTERVAL,
) -> dict[str, Difference]:
    """Metrics of `one` minus `other` by name, both models on the same draws of patients; by default all metrics that
    have an interval.

    one, other: scores (N,) or (S, N); a model's value is the mean over its seeds; the models may have different S.
    p = min(1, 2 (k + 1) / (B + 1)), where B is the number of draws with both labels, and k the number of them with a
    difference of at most 0 or of at least 0, whichever is smaller (Davison and Hinkley 1997). It is about 1 minus the
    confidence of the percentile interval that just reaches 0, and never below 2 / (B + 1): B draws show no smaller one.
    """
    places = patient_indices(patients)
    ours, theirs, people = sort_scores(labels, one, places), sort_scores(labels, other, places), int(places.max()) + 1

    def difference(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.subtract(draw_values(metrics, ours, weights), draw_values(metrics, theirs, weights))

    values = difference(np.ones(people, np.int64)).tolist()
    sampled = np.array([difference(weights) for weights in patient_draws(people, draws, seed)])
    return {
        metric.name: bootstrap_difference(value, column)
        for metric, value, column in zip(metrics, values, sampled.T, strict=True)
    }


def delong(labels: NDArray, one: NDArray, other: NDArray, *, patients: NDArray) -> Difference:
    """AUROC of `one` minus `other` by DeLong's test, in Obuchowski's form for patients with several ECGs.

    Needs no draws, and so checks the bootstrap. Where each patient has one ECG it is DeLong's test (DeLong et al. 1988;
    midranks as in Sun and Xu 2014). An ECG's component is the share of ECGs of the other class that it is correctly
    ranked against; components are summed by patient before their variance is taken (Obuchowski 1997), so that a
    patient's similar ECGs do not count as independent. one, other: scores (N,) or (S, N). Fewer than two
    patients with a positive or with a negative ECG are a ValueError.
    """
    positive, place = np.asarray(labels).astype(bool), patient_indices(patients)
    components = _components(positive, one) - _components(positive, other)
    difference = float(components[positive].mean())
    variance, sums = 0.0, []
    for kind in (positive, ~positive):
        count, holders = kind.sum(), len(np.unique(place[kind]))
        if holders < 2:
            raise ValueError("DeLong's test needs two patients with a positive ECG and two with a negative one")
        sums.append(np.bincount(place[kind], components[kind] - difference, place.max() + 1) / count)
        variance += holders / (holders - 1) * sums[-1] @ sums[-1]
    everyone = len(sums[0])
    variance += 2 * everyone / (everyone - 1) * sums[0] @ sums[1]
    error = float(np.sqrt(max(variance, 0)))
    p = 2 * norm.sf(abs(difference) / error) if error else float(difference == 0)
    half_width = float(norm.ppf(0.975)) * error
    return Difference(difference, difference - half_width, difference + half_width, float(p))


def bootstrap_difference(value: float, sampled: NDArray) -> Difference:
    """A difference with the interval and p value of sampled ones, NaN where a draw lacks one of the labels."""
    interval = percentile_interval(value, sampled)
    finite = sampled[np.isfinite(sampled)]
    rarer = min((finite <= 0).sum(), (finite >= 0).sum())
    p = min(1.0, 2 * (rarer + 1) / (len(finite) + 1))
    return Difference(value, interval.low, interval.high, float(p), interval.empty_draws)


def holm(p_values: Sequence[float]) -> list[float]:
    """P values corrected for their number (Holm 1979), in the given order.

    The smallest of m is multiplied by m, the next by m - 1, and so on, none being smaller than the one before it nor
    larger than 1. Of all comparisons with a corrected p of at most 0.05, the chance that any is of equal models is 5 %.
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for done, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - done) * p_values[place]))
        corrected[place] = largest
    return corrected


def smallest_difference(error: float, *, comparisons: int, level: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided comparison would have found with this power.

    (z(1 - level / 2m) + z(power)) times the standard error of the difference, z being normal quantiles and m the number
    of comparisons: the first of Holm's comparisons must pass level / m. Smaller differences may exist unseen.
    """
    return float(norm.ppf(1 - level / (2 * comparisons)) + norm.ppf(power)) * error


def _components(positive: NDArray[np.bool_], scores: NDArray) -> NDArray[np.floating]:
    """(N,) mean over seeds of each ECG's share of the other class that it is ranked against correctly, ties half."""
    scores = np.atleast_2d(scores)
    midranks = rankdata(scores, axis=1)
    components = np.empty(scores.shape)
    for kind in (positive, ~positive):
        # An ECG's midrank among all, minus its midrank within its class, counts the other class's ECGs below it.
        components[:, kind] = (midranks[:, kind] - rankdata(scores[:, kind], axis=1)) / (~kind).sum()
    components[:, ~positive] = 1 - components[:, ~positive]
    return components.mean(axis=0)
