"""Recalibration equals scikit-learn's logistic regression without penalty, and the curve its calibration curve."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve as scikit_learns_curve
from sklearn.linear_model import LogisticRegression

from ecg_pipeline.metrics.calibration import CLIP, calibration_curve, recalibrate, wilson
from ecg_pipeline_tests.metrics.cases import binormal, scored

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(SEEDS, st.floats(0.2, 3), st.floats(-2, 2))
def test_recalibration_is_logistic_regression(seed, stretch, shift):
    labels, scores = binormal(np.random.default_rng(seed), 200)
    scores = np.clip(expit(logit(scores) * stretch + shift), CLIP, 1 - CLIP)
    reference = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-12).fit(logit(scores)[:, None], labels)
    ours = recalibrate(labels, scores)
    assert ours.slope == pytest.approx(reference.coef_[0, 0], rel=1e-6)
    assert ours.intercept == pytest.approx(reference.intercept_[0], abs=1e-6)
    assert expit(logit(scores) + ours.in_the_large).mean() == pytest.approx(labels.mean(), abs=1e-9)


def test_scores_drawn_as_they_say_are_calibrated():
    rng = np.random.default_rng(0)
    scores = rng.beta(1, 4, 40_000)
    labels = rng.random(40_000) < scores
    ours = recalibrate(labels, scores)
    assert (ours.slope, ours.intercept, ours.in_the_large) == pytest.approx((1, 0, 0), abs=0.05)
    twice = recalibrate(labels, expit(2 * logit(scores) + 0.6))
    assert (twice.slope, twice.intercept) == pytest.approx((0.5, -0.3), abs=0.05)


@settings(deadline=None)
@given(scored())
def test_labels_that_the_scores_do_not_separate_have_a_slope(case):
    labels, (scores,), _ = case
    ill, well = scores[labels == 1], scores[labels == 0]
    if well.max() <= ill.min() or ill.max() <= well.min():
        with pytest.raises(ValueError, match="separate"):
            recalibrate(labels, scores)
    else:
        assert np.isfinite(recalibrate(labels, scores).slope)


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([1, 1, 1], [0.1, 0.2, 0.3], "both labels"),
        ([0, 1, 1], [0.1, 0.2, 0.3], "separate"),
        ([0, 1, 1], [0.2, 0.2, 0.2], "equal"),
        ([0, 1, 1], [0.2, 1.2, 0.1], "probability"),
    ],
)
def test_what_cannot_be_recalibrated_is_refused(labels, scores, says):
    with pytest.raises(ValueError, match=says):
        recalibrate(np.array(labels), np.array(scores))


@settings(deadline=None)
@given(scored(fewest=10))
def test_the_curve_is_scikit_learns(case):
    labels, (scores,), _ = case
    observed, expected = scikit_learns_curve(labels, scores, n_bins=5, strategy="quantile")
    curve = calibration_curve(labels, scores, bins=5)
    assert curve["observed"].to_numpy() == pytest.approx(observed, abs=1e-12)
    assert curve["score"].to_numpy() == pytest.approx(expected, abs=1e-12)
    assert curve["ecgs"].sum() == len(labels)
    assert curve["positives"].sum() == labels.sum()
    assert (curve["low"] <= curve["observed"] + 1e-12).all()
    assert (curve["high"] >= curve["observed"] - 1e-12).all()


def test_wilson_intervals_are_those_of_the_paper():
    """Newcombe 1998, table I: 81 of 263 and 0 of 20."""
    low, high = wilson(np.array([81, 0]), np.array([263, 20]))
    assert low == pytest.approx([0.2553, 0], abs=5e-5)
    assert high == pytest.approx([0.3662, 0.1611], abs=5e-5)
