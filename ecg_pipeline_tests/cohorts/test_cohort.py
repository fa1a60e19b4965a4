"""Cohorts: rules label what they say they label, and everybody left out is counted."""

from math import ceil

import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import SiteEcgs, assemble_cohort
from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule, TaskRecipe, label
from ecg_pipeline_tests.cohorts.tables import ecgs, facts

SPLIT = SplitRecipe(test=0.3, validation=0.2)


def labels_of(table, labels, rule):
    return dict(label(table, labels=labels, rule=rule).select("ecg_id", "label").iter_rows())


def test_the_nearest_measurement_within_the_window_counts():
    table = ecgs("s", ["near", "edge", "late", "two", "none"])
    labels = facts(
        ("near", None, 3, "measurement", "lvef_percent", 40),
        ("edge", None, -90, "measurement", "lvef_percent", 41),
        ("late", None, 91, "measurement", "lvef_percent", 20),
        ("two", None, 20, "measurement", "lvef_percent", 20),
        ("two", None, -5, "measurement", "lvef_percent", 60),
        ("none", None, 0, "measurement", "something_else", 20),
    )
    assert labels_of(table, labels, MeasurementRule()) == {"s-0": 1, "s-1": 0, "s-3": 0}


def test_the_latest_word_on_a_diagnosis_counts():
    table = ecgs("s", ["made", "excluded", "revised", "unseen"])
    labels = facts(
        ("made", None, 0, "diagnosis", "I42.1", 1),
        ("excluded", None, 0, "diagnosis", "I42.1", 0),
        ("revised", None, 0, "diagnosis", "I42.1", 1),
        ("revised", None, 9, "diagnosis", "I42.1", 0),
    )
    assert labels_of(table, labels, DiagnosisRule()) == {"s-0": 1, "s-1": 0, "s-2": 0}


def test_statements_and_their_likelihood():
    table = ecgs("s", list("abcde"))
    labels = facts(
        ("a", "s-0", 0, "scp", "INJAS", 80),
        ("b", "s-1", 0, "scp", "INJAS", 0),
        ("c", "s-2", 0, "scp", "INJAS", 15),
        ("d", "s-3", 0, "scp", "NORM", 100),
        ("e", "s-4", 0, "scp", "PACE", 0),
    )
    rule = StatementRule(positive=("INJAS",), exclude=("PACE",), minimum_likelihood=50)
    assert labels_of(table, labels, rule) == {"s-0": 1, "s-1": 1, "s-2": 0, "s-3": 0}


@pytest.fixture
def two_hospitals(tmp_path):
    inside = [f"{n:032x}" for n in range(80)]
    outside = [f"{n + 76:032x}" for n in range(20)]  # four of them are seen inside too
    inside_ecgs = ecgs("in", [*inside, inside[0], None])
    outside_ecgs = ecgs("out", outside, ["in-5", *(f"w{n}" for n in range(1, 20))])
    rows = [(p, None, 0, "diagnosis", "I42.1", n % 3 == 0) for n, p in enumerate([*inside[:70], *outside])]
    task = TaskRecipe("T", ("in",), DiagnosisRule(), ("out",))
    sites = {"in": SiteEcgs(inside_ecgs, facts(*rows)), "out": SiteEcgs(outside_ecgs, facts(*rows))}
    return assemble_cohort(task, split=SPLIT, sites=sites, pretrained_on=None, out=tmp_path)


def test_everybody_left_out_is_counted(two_hospitals):
    inside, outside = two_hospitals.flow()["in"], two_hospitals.flow()["out"]
    assert inside["ecgs_in_store"] == 82
    assert inside["without_patient_id"] == 1
    assert inside["without_label"] == 6
    assert outside["waveform_of_another_site"] == 1
    assert outside["patient_also_internal"] == 3
    for steps in (inside, outside):
        used = sum(steps[f"{split}_ecgs"] for split in ("train", "validation", "test", "external"))
        left_out = list(steps)[1 : list(steps).index("train_ecgs")]
        assert steps["ecgs_in_store"] - sum(steps[step] for step in left_out) == used


def test_a_cohort_does_not_leak(two_hospitals):
    table = two_hospitals.table()
    assert set(table.filter(pl.col("site") == "out")["split"]) == {"external"}
    inside = set(table.filter(pl.col("site") == "in")["patient"])
    assert not inside & set(table.filter(pl.col("site") == "out")["patient"])
    small, large = two_hospitals.train(0.25), two_hospitals.train(1.0)
    assert set(small["ecg_id"]) < set(large["ecg_id"])
    assert set(large["split"]) == {"train"}
    assert not set(large["patient"]) & set(two_hospitals.validation()["patient"])
    assert set(two_hospitals.test("out")["split"]) == {"external"}


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_where_nobody_validates_the_validation_patients_train(two_hospitals, fraction):
    both_splits = two_hospitals.table().filter(pl.col("split").is_in(["train", "validation"]))
    rows = two_hospitals.train_and_validation(fraction, SPLIT)
    assert rows["patient"].n_unique() == ceil(fraction * both_splits["patient"].n_unique())
    assert set(rows["ecg_id"]) == set(both_splits.filter(pl.col("patient").is_in(rows["patient"].to_list()))["ecg_id"])
    order = (
        two_hospitals.train(1.0)
        .select("patient", "fraction_order")
        .unique()
        .sort("fraction_order")["patient"]
        .to_list()
    )
    taken = order[: len(set(order) & set(rows["patient"]))]
    assert set(taken) == set(order) & set(rows["patient"])


def test_the_test_patients_inside_are_of_no_external_hospital(two_hospitals):
    rows = two_hospitals.test_internal()
    assert set(rows["site"]) == {"in"}
    assert rows.equals(two_hospitals.test("in"))


def test_what_was_pretrained_on_is_not_tested(tmp_path):
    """Two external patients: one is a patient of a pretraining site too, the waveform of the other is there as well."""
    outside = ["known", "twin", "new"]
    by_site = {"in": ecgs("in", [f"{n:032x}" for n in range(20)]), "out": ecgs("out", outside, ["w0", "w1", "w2"])}
    labels = facts(*((p, None, 0, "diagnosis", "I42.1", 1) for p in [*by_site["in"]["patient"], *outside]))
    sites = {site: SiteEcgs(table, labels) for site, table in by_site.items()}
    seen = ecgs("elsewhere", ["known", "other"], ["v0", "w1"])
    task = TaskRecipe("T", ("in",), DiagnosisRule(), ("out",))
    made = assemble_cohort(task, split=SPLIT, sites=sites, pretrained_on=seen, out=tmp_path)
    assert made.test("out")["patient"].to_list() == ["new"]
    assert made.flow()["out"]["patient_also_internal"] == 1
    assert made.flow()["out"]["waveform_pretrained_on"] == 1
    assert made.flow()["in"]["waveform_pretrained_on"] == 0
