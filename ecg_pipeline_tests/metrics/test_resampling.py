"""Planned comparisons: draws of patients and seeds, Holm's correction, and what could have been seen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ecg_pipeline.metrics.comparisons import holm, paired_difference, smallest_difference
from ecg_pipeline.metrics.resampling import Scored, resample

N = 240


def scored(rng, seeds, luck=0.0, gain=1.0, labels=None):
    """A task of N patients and a model whose networks see the same noise, and differ in skill by `luck`."""
    labels = (np.arange(N) % 3 == 0).astype(np.int8) if labels is None else labels
    skill = gain + luck * rng.normal(size=(seeds, 1))
    return Scored(labels, skill * labels + rng.normal(size=N), np.arange(N).astype(str))


def test_a_value_is_the_mean_over_seeds_and_tasks_of_the_metric():
    rng = np.random.default_rng(0)
    tasks = [scored(rng, 3), scored(rng, 3, labels=(np.arange(N) % 5 == 0).astype(np.int8))]
    expected = np.mean([[roc_auc_score(one.labels, row) for row in one.scores] for one in tasks])
    made = resample(tasks, draws=50, seed=1, model="a")
    assert made.value == pytest.approx(expected, abs=1e-12)
    assert made.interval().low < made.value < made.interval().high


def test_one_seed_gives_the_paired_bootstrap_over_patients():
    rng = np.random.default_rng(1)
    one, other = scored(rng, 1, gain=1.5), scored(rng, 1)
    found = paired_difference(one.labels, one.scores, other.scores, patients=one.patients, draws=99, seed=4)["auroc"]
    ours = [resample([each], draws=99, seed=4, model=name) for name, each in (("a", one), ("b", other))]
    assert ours[0].minus(ours[1]) == found


def test_the_luck_of_seeds_widens_the_interval_by_its_own_variance():
    """Three seeds whose AUROCs differ: drawn variance is that of the mean of three, on top of the patients'."""
    rng = np.random.default_rng(2)
    lucky = scored(rng, 3, luck=0.8)
    drawn = resample([lucky], draws=4000, seed=0, model="a").sampled
    areas = [roc_auc_score(lucky.labels, row) for row in lucky.scores]
    alone = [
        resample([Scored(lucky.labels, row[None], lucky.patients)], draws=4000, seed=0, model="a")
        for row in lucky.scores
    ]
    of_patients = np.mean([one.sampled for one in alone], axis=0).var()
    assert drawn.var() == pytest.approx(of_patients + np.var(areas, ddof=1) / 3, rel=0.15)


def test_a_patient_is_in_a_draw_with_all_tasks():
    """The same task twice has the draws of the task alone."""
    one = scored(np.random.default_rng(3), 2)
    twice, once = (resample([one] * n, draws=60, seed=0, model="a") for n in (2, 1))
    assert np.allclose(twice.sampled, once.sampled, atol=1e-12)


def test_models_share_patients_and_not_seeds():
    one = scored(np.random.default_rng(4), 3, luck=0.05)
    a, again, b = (resample([one], draws=200, seed=0, model=name) for name in ("a", "a", "b"))
    assert np.array_equal(a.sampled, again.sampled)
    assert not np.array_equal(a.sampled, b.sampled)
    assert np.corrcoef(a.sampled, b.sampled)[0, 1] > 0.5


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_its_definition(p_values):
    corrected = holm(p_values)
    order = np.argsort(p_values, kind="stable")
    steps = [min(1.0, (len(p_values) - k) * p_values[place]) for k, place in enumerate(order)]
    assert [corrected[place] for place in order] == pytest.approx(list(np.maximum.accumulate(steps)))
    # Rejecting at 5 % stops at the first that fails its own share.
    rejected = {int(place) for k, place in enumerate(order) if all(steps[j] <= 0.05 for j in range(k + 1))}
    assert {place for place, p in enumerate(corrected) if p <= 0.05} == rejected


def test_the_smallest_difference_is_found_with_its_power():
    """Simulated: of true differences of this size, 80 % pass the corrected level."""
    smallest = smallest_difference(0.02, comparisons=16)
    assert smallest == pytest.approx((norm.ppf(1 - 0.05 / 32) + norm.ppf(0.8)) * 0.02)
    z = np.random.default_rng(0).normal(smallest, 0.02, 20_000) / 0.02
    assert np.mean(2 * norm.sf(np.abs(z)) <= 0.05 / 16) == pytest.approx(0.8, abs=0.01)
