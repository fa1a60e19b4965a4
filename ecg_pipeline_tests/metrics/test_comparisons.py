"""Differences of two models: plain implementations agree, and chance is called chance."""

import numpy as np
import pytest
from hypothesis import given, settings
from sklearn.metrics import roc_auc_score

from ecg_pipeline.metrics.bootstrap import patient_draws
from ecg_pipeline.metrics.comparisons import delong, paired_difference
from ecg_pipeline.metrics.table import AUROC
from ecg_pipeline_tests.metrics.cases import AREAS, binormal, scored


def two_models(rng, n, gain=0.0):
    """labels, and scores of two models that share half of their noise; the first is better by `gain`."""
    labels = (rng.random(n) < 0.4).astype(np.int8)
    shared = rng.normal(size=n) + labels
    return labels, shared + gain * labels + rng.normal(size=n), shared + rng.normal(size=n)


def plain_delong(labels, one, other):
    """DeLong et al. 1988 as printed: the difference and its variance from all pairs, for one ECG a patient."""
    positives, negatives = np.flatnonzero(labels == 1), np.flatnonzero(labels == 0)
    v10, v01 = [], []
    for scores in (one, other):
        psi = np.array(
            [[(scores[p] > scores[n]) + 0.5 * (scores[p] == scores[n]) for n in negatives] for p in positives]
        )
        v10.append(psi.mean(axis=1))
        v01.append(psi.mean(axis=0))
    covariance = np.cov(v10) / len(positives) + np.cov(v01) / len(negatives)
    contrast = np.array([1, -1])
    return contrast @ np.mean(v10, axis=1), contrast @ covariance @ contrast


@settings(deadline=None)
@given(scored(seeds=2, fewest=6).filter(lambda case: 2 <= case[0].sum() <= len(case[0]) - 2))
def test_delong_is_what_all_pairs_give(case):
    labels, (one, other), _ = case
    difference, variance = plain_delong(labels, one, other)
    ours = delong(labels, one, other, patients=np.arange(len(labels)))
    assert ours.value == pytest.approx(difference, abs=1e-12)
    assert ours.value == pytest.approx(roc_auc_score(labels, one) - roc_auc_score(labels, other), abs=1e-12)
    assert ((ours.high - ours.low) / 2 / 1.959963984540054) ** 2 == pytest.approx(variance, abs=1e-12)


def test_patients_with_copies_of_one_ecg_count_as_one():
    labels, one, other = two_models(np.random.default_rng(0), 80)
    alone = delong(labels, one, other, patients=np.arange(80))
    three = [np.repeat(values, 3) for values in (labels, one, other)]
    copied = delong(*three, patients=np.repeat(np.arange(80), 3))
    assert (copied.value, copied.low, copied.high, copied.p) == pytest.approx(
        (alone.value, alone.low, alone.high, alone.p)
    )


def test_bootstrap_and_delong_agree_on_patients_with_several_ecgs_and_models_with_several_seeds():
    rng = np.random.default_rng(1)
    labels, one, other = two_models(rng, 300, gain=0.3)
    patients = np.repeat(np.arange(300), 2)
    labels = np.repeat(labels, 2)
    one = np.repeat(one, 2) + rng.normal(0, 0.5, (3, 600))
    other = np.repeat(other, 2) + rng.normal(0, 0.5, (2, 600))
    sampled = paired_difference(labels, one, other, patients=patients, draws=800, seed=0)["auroc"]
    formula = delong(labels, one, other, patients=patients)
    assert sampled.value == pytest.approx(formula.value, abs=1e-12)
    assert (sampled.low, sampled.high) == pytest.approx((formula.low, formula.high), abs=0.01)


def test_the_interval_and_p_value_are_those_of_the_plain_loop():
    labels, one, other = two_models(np.random.default_rng(2), 60, gain=0.5)
    apart = []
    for times in patient_draws(60, 100, seed=4):
        rows = np.repeat(np.arange(60), times)
        apart.append(roc_auc_score(labels[rows], one[rows]) - roc_auc_score(labels[rows], other[rows]))
    ours = paired_difference(labels, one, other, patients=np.arange(60), draws=100, seed=4)["auroc"]
    assert (ours.low, ours.high) == pytest.approx(tuple(np.quantile(apart, [0.025, 0.975])), abs=1e-12)
    assert ours.p == 2 * (min(sum(d <= 0 for d in apart), sum(d >= 0 for d in apart)) + 1) / 101


def test_a_model_does_not_differ_from_itself():
    labels, scores = binormal(np.random.default_rng(3), 50)
    for ours in (
        *paired_difference(labels, scores, scores, patients=np.arange(50), draws=100, seed=0).values(),
        delong(labels, scores, scores, patients=np.arange(50)),
    ):
        assert (ours.value, ours.low, ours.high, ours.p) == (0, 0, 0, 1)


def test_models_that_do_not_differ_rarely_have_a_significant_difference():
    """At the level of 5 % of 200 comparisons 10 are significant, with a standard deviation of 3."""
    rng = np.random.default_rng(4)
    by_draws, by_formula = 0, 0
    for trial in range(200):
        labels, one, other = two_models(rng, 120)
        found = paired_difference(labels, one, other, patients=np.arange(120), draws=200, seed=trial, metrics=[AUROC])
        by_draws += found["auroc"].p < 0.05
        by_formula += delong(labels, one, other, patients=np.arange(120)).p < 0.05
    assert by_draws <= 22
    assert by_formula <= 22


def test_a_difference_is_found():
    labels, one, other = two_models(np.random.default_rng(5), 600, gain=1.0)
    found = paired_difference(labels, one, other, patients=np.arange(600), draws=300, seed=0)
    assert all(found[name].low > 0 for name in AREAS)
    assert found["auroc"].p == 2 / 301
    assert delong(labels, one, other, patients=np.arange(600)).p < 0.001


def test_one_positive_patient_has_no_variance():
    with pytest.raises(ValueError, match="two patients"):
        delong(np.array([1, 0, 0]), np.array([0.3, 0.1, 0.2]), np.array([0.1, 0.3, 0.2]), patients=np.array([0, 1, 2]))
