"""Statements as targets: which codes are predicted, and what is known of each ECG."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.cohorts.pretraining_set import COLUMNS
from ecg_pipeline.cohorts.statements import (
    STATED,
    UNKNOWN,
    StatementCodes,
    StatementRecipe,
    answers,
    choose_codes,
    target_site,
)
from ecg_pipeline.cohorts.tasks import DiagnosisRule, StatementRule, TaskRecipe
from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.ingest.labels import LABEL_SCHEMA, ClinicalLabels
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.storage.files import folder_digests, write_parquet

RECIPE = StatementRecipe(minimum=2)
TASK = TaskRecipe("t", ("here",), StatementRule(positive=("IMI",), exclude=("AMI",)))


def labels_of(folder, rows):
    """Rows of ecg_id, system, code, value."""
    table = pl.DataFrame(rows, ["ecg_id", "system", "code", "value"], orient="row")
    folder.mkdir(parents=True, exist_ok=True)
    columns = [pl.lit(None, kind).alias(name) for name, kind in LABEL_SCHEMA.items() if name not in table.columns]
    cast = {name: LABEL_SCHEMA[name] for name in table.columns}
    write_parquet(folder / "labels.parquet", table.cast(cast).with_columns(columns).select(*LABEL_SCHEMA))
    return ClinicalLabels(folder)


def store_of(folder, *shards):
    """A store's table, with the ECGs of each shard."""
    rows = [
        {"ecg_id": ecg_id, "shard": shard, "array": "all", "row": row}
        for shard, ecg_ids in enumerate(shards)
        for row, ecg_id in enumerate(ecg_ids)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "ecgs.parquet", pl.DataFrame(rows, schema_overrides={"shard": pl.Int32, "row": pl.Int32}))
    return WaveformStore(folder)


def pretraining(*ecg_ids):
    return pl.DataFrame({"ecg_id": ecg_ids}).with_columns(pl.lit("x").alias(name) for name in COLUMNS[1:])


def chosen(folder, rows, ecg_ids, recipe=RECIPE, tasks=()):
    labels = {"here": labels_of(folder / "labels", rows)}
    made = choose_codes(labels, pretraining(*ecg_ids), recipe, answers=answers(tasks), out=folder / "codes")
    return made.table().rows()


ROWS = [
    ("a", "scp", "NORM", 100.0),
    ("b", "scp", "NORM", 0.0),
    ("b", "scp", "IMI", 35.0),
    ("a", "scp", "IMI", 100.0),
    ("c", "scp", "SR", 0.0),
    ("a", "scp", "SR", 0.0),
    ("a", "muse", "SINUS RHYTHM", 1.0),
    ("d", "muse", "SINUS RHYTHM", 1.0),
    ("d", "muse", "IMI", 1.0),
    ("a", "muse", "IMI", 1.0),
    (None, "measurement", "lvef_percent", 40.0),
]


def test_codes_need_enough_ecgs_of_the_training_patients(tmp_path):
    assert chosen(tmp_path, ROWS, "abd") == [
        ("muse", "IMI", 2),
        ("muse", "SINUS RHYTHM", 2),
        ("scp", "IMI", 2),
        ("scp", "NORM", 2),
    ]
    assert ("scp", "SR", 2) in chosen(tmp_path, ROWS, "ac")[:1] + chosen(tmp_path, ROWS, "abcd")
    with pytest.raises(ValueError, match=r"lower `statements.minimum`"):
        chosen(tmp_path, ROWS, "abcd", replace(RECIPE, minimum=5))


def test_what_a_task_asks_for_is_not_predicted_in_its_system(tmp_path):
    tasks = (TASK, TaskRecipe("u", ("here",), DiagnosisRule()))
    assert answers(tasks) == [("scp", "IMI")]
    codes = [row[:2] for row in chosen(tmp_path, ROWS, "abcd", tasks=tasks)]
    assert ("scp", "IMI") not in codes
    assert ("muse", "IMI") in codes
    assert [row[:2] for row in chosen(tmp_path, ROWS, "abcd", replace(RECIPE, exclude=("IMI", "NORM")))] == [
        ("muse", "SINUS RHYTHM"),
        ("scp", "SR"),
    ]


def test_a_statement_that_is_repeated_counts_one_ecg(tmp_path):
    rows = [("a", "scp", "X", 1.0), ("a", "scp", "X", 50.0), ("b", "scp", "Y", 1.0), ("c", "scp", "Y", 1.0)]
    assert chosen(tmp_path, rows, "abc") == [("scp", "Y", 2)]


@pytest.mark.parametrize(("wrong", "key"), [({"minimum": 0}, "minimum"), ({"exclude": ("A", "A")}, "exclude")])
def test_impossible_recipes_are_refused(wrong, key):
    with pytest.raises(RecipeError) as error:
        StatementRecipe(**wrong)
    assert error.value.keys == (key,)


def codes_of(folder, *pairs):
    rows = [(*pair, 9) for pair in pairs]
    write_parquet(folder / "codes.parquet", pl.DataFrame(rows, ["system", "code", "positives"], orient="row"))
    return StatementCodes(folder)


def test_targets_are_stated_not_stated_or_unknown(tmp_path):
    store = store_of(tmp_path / "store", "ba", "cde")
    codes = codes_of(tmp_path, ("muse", "IMI"), ("muse", "SINUS RHYTHM"), ("scp", "NORM"), ("scp", "SR"))
    made = target_site(store, labels_of(tmp_path / "labels", ROWS), codes, out=tmp_path / "out")
    assert made.index().rows() == [("b", 0, 0), ("a", 0, 1), ("c", 1, 0), ("d", 1, 1), ("e", 1, 2)]
    assert made.read(0).tolist() == [[-1, -1, 1, 0], [1, 1, 1, 1]]
    assert made.read(1).tolist() == [[-1, -1, 0, 1], [1, 1, -1, -1], [-1, -1, -1, -1]]
    assert made.read(0).dtype == np.int8
    assert made.attributes() == {"codes": [f"{system}:{code}" for system, code, _ in codes.table().rows()]}


def test_a_site_without_statements_knows_nothing(tmp_path):
    made = target_site(
        store_of(tmp_path / "store", "ab"),
        labels_of(tmp_path / "labels", [(None, "measurement", "lvef_percent", 40.0)]),
        codes_of(tmp_path, ("scp", "NORM")),
        out=tmp_path / "out",
    )
    assert made.read(0).tolist() == [[UNKNOWN], [UNKNOWN]]


LABELLED = st.tuples(st.sampled_from("abcdef"), st.sampled_from(["scp", "muse"]), st.sampled_from("XYZ"))


@settings(max_examples=40, deadline=None)
@given(st.lists(LABELLED, min_size=1, max_size=30, unique=True))
def test_targets_tell_exactly_what_was_stated(tmp_path_factory, labelled):
    folder = tmp_path_factory.mktemp("law")
    store, pairs = store_of(folder / "store", "ab", "cdef"), [("muse", "Y"), ("scp", "X"), ("scp", "Z")]
    labels = labels_of(folder / "labels", [(*row, 0.0) for row in labelled])
    made = target_site(store, labels, codes_of(folder, *pairs), out=folder / "out")
    for ecg_id, said in zip("abcdef", made.read_ecgs("abcdef"), strict=True):
        for pair, value in zip(pairs, said, strict=True):
            assert (value == STATED) == ((ecg_id, *pair) in labelled)
            assert (value == UNKNOWN) == (not any(row[:2] == (ecg_id, pair[0]) for row in labelled))


def test_only_shards_whose_statements_changed_are_made_again(tmp_path):
    store, codes = store_of(tmp_path / "store", "ab", "cd"), codes_of(tmp_path, ("scp", "NORM"), ("scp", "SR"))
    first = target_site(store, labels_of(tmp_path / "one", ROWS), codes, out=tmp_path / "first")
    more = labels_of(tmp_path / "two", [*ROWS, ("d", "scp", "NORM", 1.0)])
    second = target_site(store, more, codes, out=tmp_path / "second", previous=first.folder)
    kept, again = (
        (folder / "arrays.zarr" / "shard_00000" / "zarr.json").stat() for folder in (first.folder, second.folder)
    )
    assert kept.st_ino == again.st_ino
    assert second.read(1).tolist() == [[0, 1], [1, 0]]
    fresh = target_site(store, more, codes, out=tmp_path / "fresh")
    assert folder_digests(fresh.folder) == folder_digests(second.folder)
