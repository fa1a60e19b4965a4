"""Every planted leak is found by its check, and by no other."""

import re

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import SiteEcgs, assemble_cohort
from ecg_pipeline.cohorts.pretraining_set import pretraining_set
from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule, TaskRecipe, label
from ecg_pipeline_tests.cohorts.tables import ecgs, facts

SPLIT = SplitRecipe(test=0.3, validation=0.2)
RULE = DiagnosisRule()
INSIDE = ecgs("in", [f"{n % 50:032x}" for n in range(80)])
OUTSIDE = ecgs("out", [f"{n + 100:032x}" for n in range(20)])
LABELS = facts(
    *((p, None, 0, "diagnosis", "I42.1", n % 3 == 0) for n, p in enumerate([*INSIDE["patient"], *OUTSIDE["patient"]]))
)
SEEN = pretraining_set([INSIDE], SPLIT)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A cohort of a site and an external hospital, as it must be."""
    task = TaskRecipe("T", ("in",), RULE, ("out",))
    sites = {"in": SiteEcgs(INSIDE, LABELS), "out": SiteEcgs(OUTSIDE, LABELS)}
    return assemble_cohort(
        task, split=SPLIT, sites=sites, pretrained_on=SEEN, out=tmp_path_factory.mktemp("cohort")
    ).table()


def broken(table, seen=SEEN):
    """What each law finds, by its name; those that hold are left out."""
    found = {
        "patients": leaks.patients_crossing(table),
        "waveforms": leaks.waveforms_crossing(table),
        "external": leaks.external_seen_internally(table, external=["out"], internal=INSIDE["patient"]),
        "fractions": leaks.unnested(table),
        "labels": leaks.mislabelled(table, {"in": LABELS, "out": LABELS}, RULE),
        "pretraining": leaks.seen_before(table.filter(pl.col("split") != "train"), seen=seen, by="pretraining"),
    }
    return {law: sentences for law, sentences in found.items() if sentences}


def change(table, ecg_id, **values):
    """The table with other values in one row."""
    new = [pl.when(pl.col("ecg_id") == ecg_id).then(pl.lit(v)).otherwise(n).alias(n) for n, v in values.items()]
    return table.with_columns(new).cast(dict(table.schema))


def one_of(table, split, **values):
    """The first ECG of a split with these values."""
    return table.filter(pl.col("split") == split, **values).sort("ecg_id").row(0, named=True)


def test_a_cohort_breaks_no_law(table):
    assert set(table["split"]) == {"train", "validation", "test", "external"}
    assert broken(table) == {}


@pytest.mark.parametrize("to", ["validation", "test", "external"])
def test_a_patient_moved_across_the_split(table, to):
    several = table.filter(pl.col("patient").is_duplicated())
    moved = one_of(several, "train")
    found = broken(change(table, moved["ecg_id"], split=to, fraction_order=None))
    assert found["patients"] == [f"1 patients are in more than one split: {moved['patient']}"]
    assert found["pretraining"][0] == f"1 ECGs of the {to} split were seen by pretraining: {moved['ecg_id']}"


def test_a_waveform_under_another_patient_in_another_split(table):
    one, other = one_of(table, "test"), one_of(table, "external")
    found = broken(change(table, other["ecg_id"], waveform_sha256=one["waveform_sha256"]))
    assert found == {"waveforms": [f"1 waveforms are in more than one split: {one['waveform_sha256']}"]}


def test_an_ecg_that_occurs_twice(table):
    twice = one_of(table, "test")["ecg_id"]
    found = broken(pl.concat([table, table.filter(ecg_id=twice)]))
    assert found == {"waveforms": [f"1 ECGs are in the cohort more than once: {twice}"]}


def test_a_fraction_that_is_not_nested(table):
    several = table.filter(pl.col("patient").is_duplicated())
    split = one_of(several, "train")
    sentence = "1 training patients have no or several places: fractions are not nested by patient: " + split["patient"]
    assert broken(change(table, split["ecg_id"], fraction_order=0.01)) == {"fractions": [sentence]}
    assert broken(change(table, split["ecg_id"], fraction_order=None)) == {"fractions": [sentence]}
    halved = table.with_columns(pl.col("fraction_order") / 2)
    assert "fractions have other sizes" in broken(halved)["fractions"][0]
    tested = one_of(table, "test")["ecg_id"]
    found = broken(change(table, tested, fraction_order=0.5))
    assert found == {"fractions": [f"1 ECGs outside the training split have a place in the fraction order: {tested}"]}


def test_an_external_patient_in_training(table):
    moved = one_of(table, "external")["ecg_id"]
    found = broken(change(table, moved, split="train", fraction_order=0.5))
    assert found["external"] == [f"1 ECGs of an external site are in an internal split: {moved}"]


def test_an_external_patient_who_is_known_internally(table):
    known = one_of(table, "train")["patient"]
    found = broken(change(table, one_of(table, "external")["ecg_id"], patient=known))
    assert found["external"] == [f"1 external patients are also internal or pretrained on: {known}"]


def test_a_test_patient_in_the_pretraining_pool(table):
    tested = one_of(table, "test")
    planted = (
        pl.DataFrame([tested]).select(SEEN.columns).with_columns(ecg_id=pl.lit("new"), waveform_sha256=pl.lit("w"))
    )
    found = broken(table, pl.concat([SEEN, planted]))
    assert found == {"pretraining": [f"1 patients of the test split were seen by pretraining: {tested['patient']}"]}


def test_a_pretraining_waveform_that_is_validated_on(table):
    kept = one_of(table, "validation")
    planted = SEEN.with_columns(waveform_sha256=pl.lit(kept["waveform_sha256"]))
    assert broken(table, planted)["pretraining"] == [
        f"1 waveforms of the validation split were seen by pretraining: {kept['waveform_sha256']}"
    ]


def test_swapped_labels(table):
    swapped = broken(table.with_columns(label=1 - pl.col("label")))
    assert list(swapped) == ["labels"]
    assert swapped["labels"][0].startswith(f"{len(table)} ECGs have another label than the rule gives them: in-0, ")
    assert swapped["labels"][0].endswith(f" and {len(table) - 5} more")
    one = one_of(table, "test")
    assert broken(change(table, one["ecg_id"], label=1 - one["label"])) == {
        "labels": [f"1 ECGs have another label than the rule gives them: {one['ecg_id']}"]
    }


said = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from([None, "s-0", "s-1", "s-2", "s-3", "s-4"]),
    st.integers(-4, 4),
    st.sampled_from(["measurement", "diagnosis", "scp"]),
    st.sampled_from(["lvef_percent", "I42.1", "INJAS", "PACE"]),
    st.sampled_from([0, 1, 15, 40, 41, 80]),
)
RULES = [
    MeasurementRule(window_days=3),
    DiagnosisRule(),
    StatementRule(positive=("INJAS",), exclude=("PACE",), minimum_likelihood=50),
]


@given(st.lists(said, max_size=30), st.sampled_from(RULES))
def test_two_ways_to_a_label_agree(rows, rule):
    every, labels = ecgs("s", [*"abcd", None]), facts(*rows)
    labelled = label(every, labels=labels, rule=rule)
    assert leaks.mislabelled(labelled, {"s": labels}, rule) == []
    missed = every.filter(~pl.col("ecg_id").is_in(labelled["ecg_id"].to_list())).with_columns(label=pl.lit(None))
    assert leaks.mislabelled(missed, {"s": labels}, rule) == []


def trace(*aurocs, split="validation"):
    return pl.DataFrame(
        {"epoch": [float(n + 1) for n in range(len(aurocs))], f"{split}_auroc": aurocs},
        schema_overrides={f"{split}_auroc": pl.Float64},
    )


def test_the_chosen_epoch_is_the_best_on_the_patients_it_is_chosen_on():
    assert leaks.wrongly_chosen(trace(0.6, 0.8, 0.8, 0.7), chosen=2, chosen_on="validation") == []
    assert leaks.wrongly_chosen(trace(None, None, None), chosen=3, chosen_on="validation") == []
    assert leaks.wrongly_chosen(trace(0.6, 0.8, split="test"), chosen=2, chosen_on="test") == []
    assert leaks.wrongly_chosen(trace(0.6, 0.8, 0.8, 0.7), chosen=3, chosen_on="validation") == [
        "epoch 3 was chosen, but epoch 2 is the best on validation patients"
    ]


def test_an_epoch_chosen_on_test():
    peeked = trace(0.6, 0.8).with_columns(test_auroc=pl.Series([0.9, 0.5]))
    assert leaks.wrongly_chosen(peeked, chosen=1, chosen_on="validation") == [
        "the trace of a choice on validation patients has the columns test_auroc",
        "epoch 1 was chosen, but epoch 2 is the best on validation patients",
    ]


STEMI = StatementRule(system="scp", positive=("IMI", "AMI"), exclude=("NDT",))
MUSE = StatementRule(system="muse", positive=("WITH 2:1 AV CONDUCTION",))


@pytest.mark.parametrize(
    ("labels", "rule", "answers", "others"),
    [
        (["scp:NORM", "scp:IMI"], STEMI, "1 .*: scp:IMI$", 0),
        (["scp:AMI", "scp:IMI"], STEMI, "2 .*: scp:AMI, scp:IMI$", 0),
        (["scp:NORM", "scp:NDT"], STEMI, None, 0),  # its own answers were left out
        (["snomed:IMI", "scp:NORM"], STEMI, None, 1),
        (["INFERIOR INFARCT", "NORMAL ECG"], STEMI, None, 2),
        (["IMI"], STEMI, "1 .*: IMI$", 1),
        (["NORMAL ECG", "WITH 2:1 AV CONDUCTION"], MUSE, "1 .*: WITH 2:1 AV CONDUCTION$", 0),
        (["NORMAL ECG", "muse:BLOCKED"], MUSE, None, 0),
        (["muse:WITH 2:1 AV CONDUCTION", "scp:NORM"], MUSE, "1 .*: muse:WITH 2:1 AV CONDUCTION$", 1),
        (["scp:IMI", "I42.1", "lvef_percent"], DiagnosisRule(), None, 0),
        (["scp:IMI", "I42.1", "lvef_percent"], MeasurementRule(), None, 0),
    ],
)
def test_answers_of_a_task_among_the_labels_of_a_pretraining(labels, rule, answers, others):
    found = leaks.answers_pretrained_on(labels, rule)
    assert [re.search(answers, sentence) is not None for sentence in found] == [True] if answers else found == []
    assert len(leaks.not_compared(labels, rule)) == others
