"""Metrics equal scikit-learn's, with ties and with repeated ECGs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, average_precision_score, brier_score_loss, precision_recall_curve, roc_auc_score

from ecg_pipeline.metrics.bootstrap import draw_values
from ecg_pipeline.metrics.counts import patient_indices, patient_level, sort_scores
from ecg_pipeline.metrics.table import AUROC, METRICS, WITH_INTERVAL
from ecg_pipeline_tests.metrics.cases import AREAS, scored


@settings(deadline=None)
@given(scored())
def test_metrics_equal_scikit_learns(case):
    labels, (scores,), _ = case
    precision, recall, _ = precision_recall_curve(labels, scores)
    expected = {
        "auroc": roc_auc_score(labels, scores),
        "average_precision": average_precision_score(labels, scores),
        "trapezoid_auprc": auc(recall, precision),
        "brier": brier_score_loss(labels, scores),
    }
    found = {metric.name: metric.value(labels, scores) for metric in METRICS}
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_metrics_equal_scikit_learns_on_many_ecgs():
    rng = np.random.default_rng(0)
    labels, scores = rng.random(50_000) < 0.1, rng.random(50_000).round(4)
    expected = dict(zip(AREAS, (roc_auc_score(labels, scores), average_precision_score(labels, scores)), strict=True))
    found = {metric.name: metric.value(labels, scores) for metric in WITH_INTERVAL}
    assert {name: found[name] for name in AREAS} == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(scored(seeds=2), st.data())
def test_a_unit_counts_as_repeating_its_ecgs_would(case, data):
    labels, scores, patients = case
    places = patient_indices(patients)
    units = int(places.max()) + 1
    times = np.array(data.draw(st.lists(st.integers(0, 3), min_size=units, max_size=units)))
    areas = [metric for metric in WITH_INTERVAL if metric.name in AREAS]
    auroc, precision = draw_values(areas, sort_scores(labels, scores, places), times)
    repeated = np.repeat(labels, times[places])
    if 0 < repeated.sum() < len(repeated):
        by_seed = [np.repeat(row, times[places]) for row in scores]
        assert auroc == pytest.approx(np.mean([roc_auc_score(repeated, row) for row in by_seed]), abs=1e-12)
        expected = np.mean([average_precision_score(repeated, row) for row in by_seed])
        assert precision == pytest.approx(expected, abs=1e-12)
    else:
        assert np.isnan([auroc, precision]).all()


@settings(deadline=None)
@given(scored())
def test_turning_scores_round_turns_auroc_round(case):
    labels, scores, _ = case
    assert AUROC.value(labels, -scores) == pytest.approx(1 - AUROC.value(labels, scores), abs=1e-12)


@settings(deadline=None)
@given(scored(), st.randoms(use_true_random=False))
def test_the_order_of_the_table_changes_no_bit(case, random):
    labels, (scores,), _ = case
    order = list(range(len(labels)))
    random.shuffle(order)
    for metric in WITH_INTERVAL:
        assert metric.value(labels, scores) == metric.value(labels[order], scores[order])


@pytest.mark.parametrize(
    ("labels", "scores", "says"),
    [
        ([1, 1], [0.1, 0.2], "both labels"),
        ([0, 0], [0.1, 0.2], "both labels"),
        ([0, 1], [0.1, np.nan], "not finite"),
        ([0, 1], [0.1, 0.2, 0.3], "do not fit"),
    ],
)
def test_what_has_no_auroc_is_refused(labels, scores, says):
    with pytest.raises(ValueError, match=says):
        AUROC.value(np.array(labels), np.array(scores))


def test_a_patient_counts_once():
    labels, patients = np.array([0, 1, 0, 0]), np.array(["b", "a", "a", "c"], dtype=object)
    scores = np.array([[0.2, 0.9, 0.5, 0.1], [0.4, 0.8, 0.0, 0.3]])
    any_positive, means, names = patient_level(labels, scores, patients)
    assert (any_positive.tolist(), names.tolist()) == ([1, 0, 0], ["a", "b", "c"])
    np.testing.assert_allclose(means, [[0.7, 0.2, 0.1], [0.4, 0.4, 0.3]])
    np.testing.assert_allclose(patient_level(labels, scores[0], patients)[1], means[0])


def test_an_ecg_without_a_patient_is_refused():
    with pytest.raises(ValueError, match="1 ECGs have no patient"):
        patient_indices(np.array(["a", None], dtype=object))
