"""Who is pretrained on: training patients alone, and no waveform of another; and what was seen is kept."""

import json

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts.pool import counts, keep_pool, pretraining_pool, read_pool, record_training_set
from ecg_pipeline.cohorts.splits import SplitRecipe, part_of, parts
from ecg_pipeline_tests.cohorts.tables import ecgs

SPLIT = SplitRecipe(test=0.3, validation=0.2)
NAMES = [f"{n:032x}" for n in range(40)]
drawn = st.lists(st.tuples(st.sampled_from([*NAMES, None]), st.sampled_from("abcdefgh")), min_size=1, max_size=60)


@given(drawn)
def test_no_waveform_of_a_patient_who_is_held_out_is_pretrained_on(rows):
    records = ecgs("s", [patient for patient, _ in rows], [waveform for _, waveform in rows])
    pool = pretraining_pool([records], SPLIT)
    held_out = records.filter(parts(records, SPLIT).is_in(["validation", "test"]))
    assert not set(pool["waveform_sha256"]) & set(held_out["waveform_sha256"])
    assert {part_of(patient, SPLIT) for patient in pool["patient"]} <= {"train"}
    left_out = records.filter((parts(records, SPLIT) == "train") & ~pl.col("record").is_in(pool["record"].to_list()))
    assert set(left_out["waveform_sha256"]) <= set(held_out["waveform_sha256"])


def test_what_was_seen_stands_beside_the_weights(tmp_path):
    pool = pretraining_pool([ecgs("a", [*NAMES, NAMES[0]]), ecgs("b", NAMES[:20])], SPLIT)
    assert read_pool(tmp_path) is None
    keep_pool(tmp_path, pool)
    kept = read_pool(tmp_path)
    assert kept is not None
    assert kept.equals(pool)
    (tmp_path / "config.json").write_text('{"vocabulary": 8}')
    record_training_set(tmp_path, network=pool, tokenizer=None)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["vocabulary"] == 8
    assert config["pretrained_on"] == {"network": counts(pool), "tokenizer": "unknown: published weights"}
    assert counts(pool)["b"] == {"ecgs": len(pool.filter(pl.col("site") == "b")), "patients": counts(pool)["b"]["ecgs"]}
