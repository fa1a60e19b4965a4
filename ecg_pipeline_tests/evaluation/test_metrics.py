"""Metrics equal scikit-learn's, with ties and weights; intervals respect patients."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_auc_score

from ecg_pipeline.evaluation import metrics
from ecg_pipeline.evaluation.bootstrap import intervals, paired_difference, patient_weights
from ecg_pipeline.evaluation.evaluate import summarise
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.wasserstein import natural_images, pairwise


@st.composite
def scored(draw):
    n = draw(st.integers(2, 60))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda x: 0 < sum(x) < len(x)))
    scores = draw(st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.50001, 0.9, 1.0]), min_size=n, max_size=n))
    weights = draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))
    return np.array(labels), np.array(scores), np.array(weights)


@given(scored())
def test_metrics_equal_scikit_learns(case):
    labels, scores, _ = case
    precision, recall, _ = precision_recall_curve(labels, scores)
    assert metrics.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert metrics.average_precision(labels, scores) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    assert metrics.trapezoid_auprc(labels, scores) == pytest.approx(auc(recall, precision), abs=1e-12)


@given(scored())
def test_weights_count_ecgs_as_repeating_them_would(case):
    labels, scores, weights = case
    repeated = np.repeat(labels, weights), np.repeat(scores, weights)
    ranking = metrics.rank(labels, scores)
    auroc, average = metrics.auroc_and_average_precision(ranking, weights[None])
    if 0 < repeated[0].sum() < len(repeated[0]):
        assert auroc[0] == pytest.approx(roc_auc_score(*repeated), abs=1e-12)
        assert average[0] == pytest.approx(average_precision_score(*repeated), abs=1e-12)
    else:
        assert np.isnan(auroc[0])


@given(scored())
def test_turning_scores_round_turns_auroc_round(case):
    labels, scores, _ = case
    assert metrics.auroc(labels, -scores) == pytest.approx(1 - metrics.auroc(labels, scores), abs=1e-12)


def test_all_ecgs_of_a_drawn_patient_come_along():
    patients = np.array(["a", "b", "a", "c", "b"])
    for weights in patient_weights(patients, 40, seed=0):
        assert (weights[:, 0] == weights[:, 2]).all()
        assert (weights[:, 1] == weights[:, 4]).all()
        assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()


def test_repeated_patients_widen_the_interval():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 60)
    scores = labels * 0.5 + rng.normal(0, 0.6, 60)
    each, many = np.arange(60), np.repeat(np.arange(60), 5)
    alone, _ = intervals(labels, scores, each, 400, 0)
    wrongly, _ = intervals(np.repeat(labels, 5), np.repeat(scores, 5), np.arange(300), 400, 0)
    rightly, _ = intervals(np.repeat(labels, 5), np.repeat(scores, 5), many, 400, 0)
    assert rightly.value == pytest.approx(alone.value)
    assert rightly.high - rightly.low > 1.5 * (wrongly.high - wrongly.low)


def test_a_model_does_not_differ_from_itself():
    rng = np.random.default_rng(1)
    labels, scores = rng.integers(0, 2, 50), rng.random(50)
    difference, _ = paired_difference(labels, scores, scores, np.arange(50), 100, 0)
    assert (difference.value, difference.low, difference.high) == (0, 0, 0)


def test_one_class_alone_has_no_auroc_and_says_so():
    table = pl.DataFrame({"patient": ["a", "b"], "label": [1, 1], "score": [0.2, 0.3]})
    summary = summarise(table, EvaluationRecipe())
    assert summary["auroc"] is None
    assert "one label" in summary["reason"]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_image_distance_is_scipys(seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (3, 8, 8)).astype(np.uint8)
    distances = pairwise(images[:1], images[1:])
    for place in (0, 1):
        expected = wasserstein_distance(images[0].reshape(-1), images[1 + place].reshape(-1))
        assert distances[0, place] == pytest.approx(expected, abs=1e-9)


def test_natural_images_are_whole_crops():
    images = natural_images(10, seed=0)
    assert images.shape == (10, 224, 224)
    assert images.std() > 20
