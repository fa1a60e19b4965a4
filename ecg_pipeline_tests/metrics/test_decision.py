"""Operating points keep on validation what they promise, and net benefit is what its definition says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from ecg_pipeline.metrics.decision import confusion, decision_curve, operating_points
from ecg_pipeline_tests.metrics.cases import scored


def rates(labels, scores, threshold):
    ours = confusion(labels, scores, threshold)
    return ours.sensitivity, ours.specificity


@settings(deadline=None)
@given(scored())
def test_no_threshold_does_better_than_the_operating_points(case):
    labels, (scores,), _ = case
    points = operating_points(labels, scores)
    every = [rates(labels, scores, threshold) for threshold in (*np.unique(scores), 2.0)]
    assert sum(rates(labels, scores, points["youden"])) == pytest.approx(max(map(sum, every)))
    sensitivity, specificity = rates(labels, scores, points["sensitivity_90"])
    assert sensitivity >= 0.9
    assert specificity == max(spec for sens, spec in every if sens >= 0.9)
    sensitivity, specificity = rates(labels, scores, points["specificity_90"])
    assert specificity >= 0.9
    assert sensitivity == max(sens for sens, spec in every if spec >= 0.9)


def test_exactly_nine_in_ten_is_enough():
    labels, scores = np.repeat([1, 0], 10), np.r_[np.arange(11, 21), np.arange(2, 12)] / 20
    assert operating_points(labels, scores)["sensitivity_90"] == 0.6
    assert operating_points(labels, scores)["specificity_90"] == 0.55


@settings(deadline=None)
@given(scored(), st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]))
def test_counts_are_scikit_learns(case, threshold):
    labels, (scores,), _ = case
    ours = confusion(labels, scores, threshold)
    expected = confusion_matrix(labels, scores >= threshold, labels=[0, 1]).ravel().tolist()
    assert [ours.true_negatives, ours.false_positives, ours.false_negatives, ours.true_positives] == expected


def test_rates_of_nothing_are_none():
    ours = confusion(np.array([0, 0]), np.array([0.1, 0.2]), 0.5)
    assert (ours.sensitivity, ours.specificity, ours.ppv, ours.npv) == (None, 1, None, 1)


@settings(deadline=None)
@given(scored())
def test_net_benefit_is_its_definition(case):
    labels, (scores,), _ = case
    curve = decision_curve(labels, scores, np.array([0.05, 0.25, 0.5, 0.9]))
    for threshold, model, everyone, nobody in curve.iter_rows():
        called, weight = scores >= threshold, threshold / (1 - threshold)
        benefit = np.mean(called & (labels == 1)) - weight * np.mean(called & (labels == 0))
        assert model == pytest.approx(benefit, abs=1e-12)
        assert everyone == pytest.approx(np.mean(labels == 1) - weight * np.mean(labels == 0), abs=1e-12)
        assert nobody == 0


def test_acting_at_certainty_has_no_odds():
    with pytest.raises(ValueError, match="excluded"):
        decision_curve(np.array([0, 1]), np.array([0.2, 0.4]), np.array([0.5, 1.0]))
