"""Cohorts: rules label what they say they label, everybody left out is counted, planted leaks are named."""

from datetime import datetime, timedelta
from math import ceil

import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import SiteRecords, assemble_cohort, leaks
from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule, TaskRecipe, label
from ecg_pipeline.records.labels import LABEL_SCHEMA
from ecg_pipeline.records.store import RECORD_SCHEMA

DAY = datetime(2020, 6, 1)
SPLIT = SplitRecipe(test=0.3, validation=0.2)


def ecgs(site, patients, waveforms=None):
    rows = [
        {
            "record": f"{site}-{n}",
            "site": site,
            "patient": patient,
            "acquired_at": DAY,
            "waveform_sha256": waveforms[n] if waveforms else f"{site}-{n}",
        }
        for n, patient in enumerate(patients)
    ]
    return pl.DataFrame(rows, schema=RECORD_SCHEMA)


def facts(*rows):
    """rows: (patient, record, days after the ECG, system, code, value)."""
    return pl.DataFrame(
        [
            {
                "patient": patient,
                "record": record,
                "observed_at": DAY + timedelta(days=days),
                "system": system,
                "code": code,
                "value": float(value),
            }
            for patient, record, days, system, code, value in rows
        ],
        schema=LABEL_SCHEMA,
    )


def labels_of(records, labels, rule):
    return dict(label(records, labels, rule).select("record", "label").iter_rows())


def test_the_nearest_measurement_within_the_window_counts():
    records = ecgs("s", ["near", "edge", "late", "two", "none"])
    labels = facts(
        ("near", None, 3, "measurement", "lvef_percent", 40),
        ("edge", None, -90, "measurement", "lvef_percent", 41),
        ("late", None, 91, "measurement", "lvef_percent", 20),
        ("two", None, 20, "measurement", "lvef_percent", 20),
        ("two", None, -5, "measurement", "lvef_percent", 60),
        ("none", None, 0, "measurement", "something_else", 20),
    )
    assert labels_of(records, labels, MeasurementRule()) == {"s-0": 1, "s-1": 0, "s-3": 0}


def test_the_latest_word_on_a_diagnosis_counts():
    records = ecgs("s", ["made", "excluded", "revised", "unseen"])
    labels = facts(
        ("made", None, 0, "diagnosis", "I42.1", 1),
        ("excluded", None, 0, "diagnosis", "I42.1", 0),
        ("revised", None, 0, "diagnosis", "I42.1", 1),
        ("revised", None, 9, "diagnosis", "I42.1", 0),
    )
    assert labels_of(records, labels, DiagnosisRule()) == {"s-0": 1, "s-1": 0, "s-2": 0}


def test_statements_and_their_likelihood():
    records = ecgs("s", list("abcde"))
    labels = facts(
        ("a", "s-0", 0, "scp", "INJAS", 80),
        ("b", "s-1", 0, "scp", "INJAS", 0),
        ("c", "s-2", 0, "scp", "INJAS", 15),
        ("d", "s-3", 0, "scp", "NORM", 100),
        ("e", "s-4", 0, "scp", "PACE", 0),
    )
    rule = StatementRule(positive=("INJAS",), exclude=("PACE",), minimum_likelihood=50)
    assert labels_of(records, labels, rule) == {"s-0": 1, "s-1": 1, "s-2": 0, "s-3": 0}


@pytest.fixture
def two_hospitals(tmp_path):
    inside = [f"{n:032x}" for n in range(80)]
    outside = [f"{n + 76:032x}" for n in range(20)]  # four of them are seen inside too
    inside_records = ecgs("in", [*inside, inside[0], None])
    outside_records = ecgs("out", outside, ["in-5", *(f"w{n}" for n in range(1, 20))])
    rows = [(p, None, 0, "diagnosis", "I42.1", n % 3 == 0) for n, p in enumerate([*inside[:70], *outside])]
    task = TaskRecipe("T", ("in",), DiagnosisRule(), ("out",))
    sites = {"in": SiteRecords(inside_records, facts(*rows)), "out": SiteRecords(outside_records, facts(*rows))}
    return assemble_cohort(task, SPLIT, sites, tmp_path)


def test_everybody_left_out_is_counted(two_hospitals):
    inside, outside = two_hospitals.flow()["in"], two_hospitals.flow()["out"]
    assert inside["ecgs_in_store"] == 82
    assert inside["without_patient_id"] == 1
    assert inside["without_label"] == 6
    assert outside["waveform_of_another_site"] == 1
    assert outside["patient_also_internal"] == 3
    for steps in (inside, outside):
        used = sum(steps[f"{part}_ecgs"] for part in ("train", "validation", "test", "external"))
        left_out = ("without_patient_id", "waveform_of_another_site", "patient_also_internal", "without_label")
        assert steps["ecgs_in_store"] - sum(steps[step] for step in left_out) == used


def test_a_cohort_does_not_leak(two_hospitals):
    table = two_hospitals.table()
    assert leaks(table) == []
    assert set(table.filter(pl.col("site") == "out")["part"]) == {"external"}
    inside = set(table.filter(pl.col("site") == "in")["patient"])
    assert not inside & set(table.filter(pl.col("site") == "out")["patient"])
    small, large = two_hospitals.train(0.25), two_hospitals.train(1.0)
    assert set(small["record"]) < set(large["record"])
    assert set(large["part"]) == {"train"}
    assert not set(large["patient"]) & set(two_hospitals.validation()["patient"])
    assert set(two_hospitals.test("out")["part"]) == {"external"}


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_where_nobody_validates_the_validation_patients_train(two_hospitals, fraction):
    parts = two_hospitals.table().filter(pl.col("part").is_in(["train", "validation"]))
    rows = two_hospitals.train_and_validation(fraction, SPLIT)
    assert rows["patient"].n_unique() == ceil(fraction * parts["patient"].n_unique())
    assert set(rows["record"]) == set(parts.filter(pl.col("patient").is_in(rows["patient"].to_list()))["record"])
    order = two_hospitals.train(1.0).select("patient", "rank").unique().sort("rank")["patient"].to_list()
    taken = order[: len(set(order) & set(rows["patient"]))]
    assert set(taken) == set(order) & set(rows["patient"])


def test_the_test_patients_inside_are_of_no_external_hospital(two_hospitals):
    rows = two_hospitals.test_inside()
    assert set(rows["site"]) == {"in"}
    assert rows.equals(two_hospitals.test("in"))


def test_planted_leaks_are_named(two_hospitals):
    table = two_hospitals.table()
    training = table.filter(pl.col("part") == "train")
    moved = training.head(1).with_columns(record=pl.lit("new"), part=pl.lit("test"), rank=None)
    assert "1 patients are in more than one part" in leaks(pl.concat([table, moved]))
    assert "1 ECGs occur twice" in leaks(pl.concat([table, training.head(1)]))
    unranked = table.with_columns(rank=pl.when(pl.col("record") != training["record"][0]).then("rank"))
    assert any("fractions are not nested" in leak for leak in leaks(unranked))
    ranked = table.with_columns(rank=pl.col("rank").fill_null(0.5))
    assert any("has a rank" in leak for leak in leaks(ranked))
