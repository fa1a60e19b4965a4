"""Who is pretrained on: training patients alone, and no waveform of another; and what was seen is kept."""

import json
import shutil

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts.pretraining_set import (
    NETWORK,
    copy_training_sets,
    counts,
    pretraining_set,
    save_training_set,
    training_sets,
)
from ecg_pipeline.cohorts.splits import SplitRecipe, assign_splits, split_of
from ecg_pipeline.storage.files import folder_digests
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
    path = save_training_set(tmp_path, NETWORK, chosen)
    assert pl.read_parquet(path).equals(chosen)
    save_training_set(tmp_path, "image_tokenizer", None)
    kept = training_sets(tmp_path)
    assert list(kept) == [NETWORK, "image_tokenizer"]
    assert kept[NETWORK].equals(chosen)
    assert kept["image_tokenizer"] is None
    known = json.loads((tmp_path / "pretrained_on" / "counts.json").read_text())
    assert known == {NETWORK: counts(chosen), "image_tokenizer": "unknown: published weights"}
    assert counts(chosen)["b"] == {
        "ecgs": len(chosen.filter(pl.col("site") == "b")),
        "patients": counts(chosen)["b"]["ecgs"],
    }


def test_what_a_start_saw_goes_with_the_model_that_was_trained_from_it(tmp_path):
    chosen = pretraining_set([ecgs("a", NAMES)], SPLIT)
    start, tuned = tmp_path / "start", tmp_path / "tuned"
    save_training_set(start, NETWORK, chosen)
    save_training_set(start, "image_tokenizer", chosen.head(5))
    copy_training_sets(start, to=tuned)
    assert folder_digests(tuned / "pretrained_on") == folder_digests(start / "pretrained_on")
    shutil.rmtree(start)
    assert training_sets(tuned)["image_tokenizer"].equals(chosen.head(5))


def test_weights_without_any_statement_of_what_they_saw_are_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"counts\.json"):
        training_sets(tmp_path)
