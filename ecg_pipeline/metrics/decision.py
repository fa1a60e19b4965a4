"""Decisions from a score: operating points fixed on validation patients, and decision curves (net benefit).

An ECG is called positive if its score is at least the threshold. (Decision curves: Vickers and Elkin 2006.)
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import counts

TARGET_RATE = 0.9
"""Sensitivity, or specificity, that an operating point must have on validation patients."""

THRESHOLDS = np.arange(1, 100) / 100
"""Thresholds of the decision curve: probabilities at which a clinician would act."""


@dataclass(frozen=True)
class Confusion:
    """Counts of ECGs at a threshold, and their rates; a rate is None if its denominator is 0."""

    threshold: float
    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int
    sensitivity: float | None
    specificity: float | None
    ppv: float | None
    npv: float | None


def operating_points(labels: NDArray, scores: NDArray) -> dict[str, float]:
    """Thresholds chosen on validation patients, each one of their scores. labels, scores: (N,), both labels present.

    `youden` has the largest sensitivity + specificity (the highest such threshold); `sensitivity_90` is the highest
    threshold with a sensitivity of at least 0.90, `specificity_90` the lowest with a specificity of at least 0.90, or
    just above the highest score if no score has one.
    """
    found = counts(labels, scores)
    thresholds, true, false = found.score, found.true, found.false
    ill, well = true[-1], false[-1]
    specific = np.flatnonzero((well - false) / well >= TARGET_RATE)
    return {
        "youden": float(thresholds[np.argmax(true * well - false * ill)]),
        "sensitivity_90": float(thresholds[np.argmax(true / ill >= TARGET_RATE)]),
        "specificity_90": float(thresholds[specific[-1]] if len(specific) else np.nextafter(thresholds[0], np.inf)),
    }


def confusion(labels: NDArray, scores: NDArray, threshold: float) -> Confusion:
    """Counts and rates of (N,) labels and scores at a threshold."""
    positive, called = np.asarray(labels).astype(bool), np.asarray(scores, np.float64) >= threshold
    hit, false_alarm = int((called & positive).sum()), int((called & ~positive).sum())
    missed, passed = int((~called & positive).sum()), int((~called & ~positive).sum())
    return Confusion(
        threshold,
        true_positives=hit,
        false_positives=false_alarm,
        true_negatives=passed,
        false_negatives=missed,
        sensitivity=_share(hit, hit + missed),
        specificity=_share(passed, passed + false_alarm),
        ppv=_share(hit, hit + false_alarm),
        npv=_share(passed, passed + missed),
    )


def decision_curve(labels: NDArray, scores: NDArray, thresholds: NDArray = THRESHOLDS) -> pl.DataFrame:
    """Net benefit per ECG at each threshold: true positives minus false positives times the threshold's odds.

    Columns threshold, model, treat_all, treat_none (which is 0). labels: (N,). scores: (N,) probabilities.
    thresholds: between 0 and 1, both excluded.
    """
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError("a decision threshold must lie between 0 and 1, both excluded")
    positive = np.asarray(labels).astype(bool)
    odds, prevalence = thresholds / (1 - thresholds), positive.mean()
    hits, false_alarms = (
        (kind.sum() - np.searchsorted(np.sort(np.asarray(scores)[kind]), thresholds)) / len(positive)
        for kind in (positive, ~positive)
    )
    return pl.DataFrame(
        {
            "threshold": thresholds,
            "model": hits - odds * false_alarms,
            "treat_all": prevalence - odds * (1 - prevalence),
            "treat_none": np.zeros(len(thresholds)),
        }
    )


def _share(count: int, of: int) -> float | None:
    return count / of if of else None
