"""Acting on a score: operating points fixed on validation patients, and the net benefit of acting at all.

An ECG is called positive where its score is at least the threshold. (Decision curves: Vickers and Elkin 2006.)
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.metrics.counts import counts

KEPT_RATE = 0.9
"""Sensitivity, or specificity, that an operating point keeps on validation patients."""

THRESHOLDS = np.arange(1, 100) / 100
"""Of the decision curve: the probability at which a clinician would act."""


@dataclass(frozen=True)
class Confusion:
    """Counts of ECGs at a threshold, and the rates they give; a rate of nothing is None."""

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
    threshold with a sensitivity of at least 0.90, `specificity_90` the lowest with a specificity of at least 0.90: just
    above the highest score if even that calls too many healthy ECGs positive.
    """
    found = counts(labels, scores)
    thresholds, true, false = found.score, found.true, found.false
    ill, well = true[-1], false[-1]
    specific = np.flatnonzero((well - false) / well >= KEPT_RATE)
    return {
        "youden": float(thresholds[np.argmax(true * well - false * ill)]),
        "sensitivity_90": float(thresholds[np.argmax(true / ill >= KEPT_RATE)]),
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
    """Net benefit an ECG at each threshold: true positives less false positives weighted by the odds of the threshold.

    Columns threshold, model, treat_all, treat_none (which is 0). labels: (N,). scores: (N,) probabilities.
    thresholds: within 0 and 1, both excluded.
    """
    if not ((thresholds > 0) & (thresholds < 1)).all():
        raise ValueError("a decision threshold lies between 0 and 1, both excluded")
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


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
