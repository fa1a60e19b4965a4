"""Calibration, whether one in five ECGs with a score of 0.2 is positive: recalibration and the calibration curve.

(Van Calster et al. 2019, Calibration: the Achilles heel of predictive analytics; TRIPOD+AI item 12e.)
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit
from scipy.stats import norm

CLIP = 1e-6
"""Scores nearer to 0 or 1 are moved to this distance, because their log odds would be infinite."""

NEWTON_STEPS = 100
BINS = 10


@dataclass(frozen=True)
class Calibration:
    """The logistic recalibration log odds(label) = intercept + slope * log odds(score).

    A slope of 1 and an intercept of 0 are perfect; a slope below 1 means that scores are too extreme. in_the_large: the
    intercept where the slope is fixed at 1; below 0 the scores are too high on average.
    """

    slope: float
    intercept: float
    in_the_large: float


def recalibrate(labels: NDArray, scores: NDArray) -> Calibration:
    """Fit by maximum likelihood. labels: (N,) of 0 and 1. scores: (N,) probabilities.

    A score outside [0, 1], labels that are all 0 or all 1, and scores that separate the labels (the slope would be
    infinite) are a ValueError.
    """
    positive, odds = np.asarray(labels).astype(bool), logit(np.clip(_probabilities(scores), CLIP, 1 - CLIP))
    if positive.all() or not positive.any():
        raise ValueError("calibration needs ECGs of both labels, and these have one alone")
    if odds[~positive].max() <= odds[positive].min() or odds[positive].max() <= odds[~positive].min():
        raise ValueError("the scores separate the labels, or are all equal: no finite calibration slope fits")
    intercept, slope = _logistic_regression(np.stack([np.ones(len(odds)), odds], axis=1), positive)
    # With the slope fixed, the likelihood is greatest where the expected number of positives is the observed one.
    in_the_large: Any = brentq(lambda shift: expit(odds + shift).mean() - positive.mean(), -50, 50, xtol=1e-12)
    return Calibration(slope, intercept, in_the_large)


def calibration_curve(labels: NDArray, scores: NDArray, bins: int = BINS) -> pl.DataFrame:
    """Observed against expected risk in bins of equal size: quantiles of the score, equal scores in one bin.

    Columns score (the bin's mean), observed (share of positives), low and high (its 95 % Wilson interval, ECGs taken as
    independent), ecgs, positives. Bins without ECGs are left out. scores: (N,) probabilities.
    """
    scores = _probabilities(scores)
    edges = np.quantile(scores, np.linspace(0, 1, bins + 1))[1:-1]
    table = pl.DataFrame({"bin": np.searchsorted(edges, scores), "score": scores, "label": np.asarray(labels)})
    curve = (
        table.group_by("bin")
        .agg(pl.col("score").mean(), ecgs=pl.len().cast(pl.Int64), positives=pl.col("label").cast(pl.Int64).sum())
        .sort("bin")
    )
    low, high = wilson(curve["positives"].to_numpy(), curve["ecgs"].to_numpy())
    return curve.select(
        "score",
        pl.Series("observed", curve["positives"] / curve["ecgs"]),
        pl.Series("low", low),
        pl.Series("high", high),
        "ecgs",
        "positives",
    )


def wilson(successes: NDArray, trials: NDArray) -> tuple[NDArray, NDArray]:
    """95 % intervals of proportions (Wilson 1927), which stay within 0 and 1 and hold for few trials. trials > 0."""
    z = norm.ppf(0.975)
    share, shrink = successes / trials, 1 + z**2 / trials
    centre = (share + z**2 / (2 * trials)) / shrink
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / shrink
    return np.clip(centre - half, 0, 1), np.clip(centre + half, 0, 1)


def _probabilities(scores: NDArray) -> NDArray[np.float64]:
    scores = np.asarray(scores, np.float64)
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError("a score is no probability between 0 and 1")
    return scores


def _logistic_regression(x: NDArray, positive: NDArray[np.bool_]) -> tuple[float, ...]:
    """Coefficients of x (N, 2) without penalty, by Newton's steps, halved until the likelihood grows."""

    def loss(weights: NDArray) -> float:
        return float(np.logaddexp(0, np.where(positive, -1, 1) * (x @ weights)).sum())

    weights = np.zeros(x.shape[1])
    for _ in range(NEWTON_STEPS):
        expected = expit(x @ weights)
        gradient = x.T @ (positive - expected)
        step = np.linalg.solve((x.T * (expected * (1 - expected))) @ x, gradient)
        while loss(weights + step) > loss(weights):
            step /= 2
        weights = weights + step
        if np.abs(step).max() < 1e-10:
            return tuple(weights.tolist())
    raise ValueError("the calibration slope did not converge: the scores all but separate the labels")
