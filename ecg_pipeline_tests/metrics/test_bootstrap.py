"""Intervals over patients: the loop over scikit-learn gives the same, and they respect what belongs together."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_pipeline.metrics.bootstrap import intervals, patient_draws
from ecg_pipeline_tests.metrics.cases import binormal, scored

DRAWS = 25


def plain_draws(labels, scores, patients, seed):
    """The bootstrap as one would write it down: (AUROC, average precision) of each draw with both labels."""
    names = sorted(set(patients))
    values = []
    for times in patient_draws(len(names), DRAWS, seed):
        rows = [
            row for name, n in zip(names, times, strict=True) for row in np.flatnonzero(patients == name).tolist() * n
        ]
        if 0 < labels[rows].sum() < len(rows):
            values.append(
                [
                    np.mean([m(labels[rows], one[rows]) for one in scores])
                    for m in (roc_auc_score, average_precision_score)
                ]
            )
    return np.array(values)


@settings(max_examples=15, deadline=None)
@given(scored(seeds=2, fewest=12))
def test_intervals_are_those_of_the_plain_loop(case):
    labels, scores, patients = case
    expected = plain_draws(labels, scores, patients, seed=3)
    if not len(expected):
        return
    for which, interval in enumerate(intervals(labels, scores, patients, DRAWS, seed=3)):
        assert interval.empty_draws == DRAWS - len(expected)
        low, high = np.quantile(expected[:, which], [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_one_seed_and_the_same_seed_twice_agree():
    labels, scores = binormal(np.random.default_rng(0), 80)
    patients = np.arange(80) // 2
    assert intervals(labels, scores, patients, 50, 0) == intervals(labels, np.stack([scores, scores]), patients, 50, 0)


def test_a_draw_depends_on_the_seed_alone():
    """Numbers written down once: another machine or another numpy must give the same."""
    labels = np.arange(40) % 3 == 0
    scores = (np.arange(40) * 17 % 40) / 40 + labels * 0.2
    auroc, precision = intervals(labels, scores, np.arange(40) // 2, 200, seed=7)
    assert (auroc.low, auroc.high) == pytest.approx((0.4221447172619048, 0.7800233945741758), abs=1e-12)
    assert (precision.low, precision.high) == pytest.approx((0.3397123939271912, 0.7229317926055354), abs=1e-12)


def test_every_draw_holds_as_many_patients():
    draws = list(patient_draws(7, 30, seed=0))
    assert len(draws) == 30
    assert all(times.shape == (7,) and times.sum() == 7 for times in draws)


def test_a_patients_alike_ecgs_widen_nothing_away():
    rng = np.random.default_rng(0)
    labels, scores = binormal(rng, 60)
    many = np.repeat(np.arange(60), 5)
    alone, _ = intervals(labels, scores, np.arange(60), 400, 0)
    wrongly, _ = intervals(np.repeat(labels, 5), np.repeat(scores, 5), np.arange(300), 400, 0)
    rightly, _ = intervals(np.repeat(labels, 5), np.repeat(scores, 5), many, 400, 0)
    assert (rightly.low, rightly.high) == pytest.approx((alone.low, alone.high))
    assert rightly.high - rightly.low > 1.5 * (wrongly.high - wrongly.low)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """95 % intervals of 300 trials hold the true AUROC 285 times, with a standard deviation of 4."""
    rng = np.random.default_rng(1)
    truth = 0.7602499389  # Phi(1 / sqrt(2))
    held = 0
    for trial in range(300):
        auroc, _ = intervals(*binormal(rng, 150), np.arange(150), 200, trial)
        held += auroc.low <= truth <= auroc.high
    assert 265 <= held <= 298


def test_a_single_patient_is_always_drawn():
    auroc, _ = intervals(np.array([0, 1, 1]), np.array([0.1, 0.3, 0.2]), np.array(["a", "a", "a"]), 20, 0)
    assert (auroc.value, auroc.low, auroc.high, auroc.empty_draws) == (1, 1, 1, 0)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="both labels"):
        intervals(np.ones(3), np.array([0.1, 0.2, 0.3]), np.arange(3), 20, 0)


def test_draws_that_lack_a_class_are_counted():
    auroc, _ = intervals(np.array([0, 1]), np.array([0.1, 0.2]), np.array(["a", "b"]), 100, 0)
    assert 30 < auroc.empty_draws < 70
