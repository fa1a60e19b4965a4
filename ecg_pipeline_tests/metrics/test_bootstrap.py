"""Intervals over patients: the loop over scikit-learn gives the same, and they respect what belongs together."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_pipeline.metrics.bootstrap import intervals, patient_draws
from ecg_pipeline.metrics.table import AUROC, WITH_INTERVAL
from ecg_pipeline_tests.metrics.cases import AREAS, binormal, scored

DRAWS = 25


def auroc_interval(labels, scores, patients, *, draws, seed=0):
    return intervals(labels, scores, patients, draws=draws, seed=seed, metrics=[AUROC])["auroc"]


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
    found = intervals(labels, scores, patients, draws=DRAWS, seed=3)
    for which, interval in enumerate(found[name] for name in AREAS):
        assert interval.empty_draws == DRAWS - len(expected)
        low, high = np.quantile(expected[:, which], [0.025, 0.975])
        assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-12)


def test_one_seed_and_the_same_seed_twice_agree():
    labels, scores = binormal(np.random.default_rng(0), 80)
    patients = np.arange(80) // 2
    one = intervals(labels, scores, patients, draws=50, seed=0)
    assert one == intervals(labels, np.stack([scores, scores]), patients, draws=50, seed=0)
    assert list(one) == [metric.name for metric in WITH_INTERVAL]


def test_a_draw_depends_on_the_seed_alone():
    """Numbers written down once: another machine or another numpy must give the same."""
    labels = np.arange(40) % 3 == 0
    scores = (np.arange(40) * 17 % 40) / 40 + labels * 0.2
    found = intervals(labels, scores, np.arange(40) // 2, draws=200, seed=7)
    auroc, precision = (found[name] for name in AREAS)
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
    alone = auroc_interval(labels, scores, np.arange(60), draws=400)
    by_ecg = auroc_interval(np.repeat(labels, 5), np.repeat(scores, 5), np.arange(300), draws=400)
    by_patient = auroc_interval(np.repeat(labels, 5), np.repeat(scores, 5), many, draws=400)
    assert (by_patient.low, by_patient.high) == pytest.approx((alone.low, alone.high))
    assert by_patient.high - by_patient.low > 1.5 * (by_ecg.high - by_ecg.low)


def test_an_interval_holds_the_truth_as_often_as_it_says():
    """95 % intervals of 300 trials hold the true AUROC 285 times, with a standard deviation of 4."""
    rng = np.random.default_rng(1)
    truth = 0.7602499389  # Phi(1 / sqrt(2))
    held = 0
    for trial in range(300):
        auroc = auroc_interval(*binormal(rng, 150), np.arange(150), draws=200, seed=trial)
        held += auroc.low <= truth <= auroc.high
    assert 265 <= held <= 298


def test_a_single_patient_is_always_sampled():
    auroc = auroc_interval(np.array([0, 1, 1]), np.array([0.1, 0.3, 0.2]), np.array(["a", "a", "a"]), draws=20)
    assert (auroc.value, auroc.low, auroc.high, auroc.empty_draws) == (1, 1, 1, 0)


def test_one_class_alone_is_refused():
    with pytest.raises(ValueError, match="both labels"):
        intervals(np.ones(3), np.array([0.1, 0.2, 0.3]), np.arange(3), draws=20, seed=0)


def test_draws_that_lack_a_class_are_counted():
    auroc = auroc_interval(np.array([0, 1]), np.array([0.1, 0.2]), np.array(["a", "b"]), draws=100)
    assert 30 < auroc.empty_draws < 70
