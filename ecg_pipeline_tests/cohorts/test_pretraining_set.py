"""Who is pretrained on: training patients alone, and no waveform of another; and what was seen is kept."""

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts.pretraining_set import (
    counts,
    pretraining_set,
    read_training_set,
    record_training_set,
    save_training_set,
)
from ecg_pipeline.cohorts.splits import SplitRecipe, assign_splits, split_of
from ecg_pipeline_tests.cohorts.tables import ecgs

SPLIT = SplitRecipe(test=0.3, validation=0.2)
NAMES = [f"{n:032x}" for n in range(40)]
tables = st.lists(st.tuples(st.sampled_from([*NAMES, None]), st.sampled_from("abcdefgh")), min_size=1, max_size=60)


@given(tables)
def test_no_waveform_of_a_patient_who_is_held_out_is_pretrained_on(rows):
    table = ecgs("s", [patient for patient, _ in rows], [waveform for _, waveform in rows])
    chosen = pretraining_set([table], SPLIT)
    held_out = table.filter(assign_splits(table, SPLIT).is_in(["validation", "test"]))
    assert not set(chosen["waveform_sha256"]) & set(held_out["waveform_sha256"])
    assert {split_of(patient, SPLIT) for patient in chosen["patient"]} <= {"train"}
    left_out = table.filter(
        (assign_splits(table, SPLIT) == "train") & ~pl.col("ecg_id").is_in(chosen["ecg_id"].to_list())
    )
    assert set(left_out["waveform_sha256"]) <= set(held_out["waveform_sha256"])


def test_what_was_seen_stands_beside_the_weights(tmp_path):
    chosen = pretraining_set([ecgs("a", [*NAMES, NAMES[0]]), ecgs("b", NAMES[:20])], SPLIT)
    assert read_training_set(tmp_path) is None
    save_training_set(tmp_path, chosen)
    kept = read_training_set(tmp_path)
    assert kept is not None
    assert kept.equals(chosen)
    (tmp_path / "config.json").write_text('{"vocabulary": 8}')
    record_training_set(tmp_path, network=chosen, tokenizer=None)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocabulary"] == 8
    assert config["pretrained_on"] == {"network": counts(chosen), "tokenizer": "unknown: published weights"}
    assert counts(chosen)["b"] == {
        "ecgs": len(chosen.filter(pl.col("site") == "b")),
        "patients": counts(chosen)["b"]["ecgs"],
    }
