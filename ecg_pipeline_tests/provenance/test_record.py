"""A record says what went in and what came out, is appended, and survives a round trip."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.provenance.archive import Archive, NotMaterialised
from ecg_pipeline.provenance.record import (
    LayoutError,
    Record,
    Upstream,
    build_id,
    read_record,
    seeds_in,
    write_record,
)
from ecg_pipeline.storage.files import read_json, write_json

RECORD = Record(
    asset="low_lvef/cohort",
    partition=None,
    build="b" * 16,
    data_version="d" * 16,
    code_version="c" * 16,
    identity={"revision": 1, "split": {"seed": 3}},
    study="s" * 16,
    upstream=(Upstream("waveform_store", "north", "1"), Upstream("waveform_store", "south", "2")),
    files={"cohort.parquet": "0" * 64},
    seeds={"split.seed": 3},
    git_commit=None,
    git_dirty=None,
    packages={"python": "3.11"},
    hardware={"cores": 2},
    dagster_run_id="run",
    mlflow_run_id=None,
    started_at="2026-01-01T00:00:00.000+00:00",
    ended_at="2026-01-01T00:00:01.000+00:00",
)


def test_round_trip(tmp_path):
    assert read_record(write_record(tmp_path / "record.json", RECORD)) == RECORD


def test_an_output_of_an_earlier_layout_is_refused_in_one_sentence(tmp_path):
    archive = Archive(tmp_path)
    archive.check_layout()
    archive.save(RECORD)
    archive.check_layout()
    path = archive.place(RECORD.asset, None) / "record.json"
    write_json(path, {name: value for name, value in read_json(path).items() if name != "layout"})
    for read in (archive.check_layout, lambda: archive.newest(RECORD.asset, None)):
        with pytest.raises(LayoutError, match=rf"{path} was written by another version .*Set ECG_HOME to a new folder"):
            read()


def test_records_are_appended_and_the_newest_is_found(tmp_path):
    archive = Archive(tmp_path)
    second = replace(RECORD, build="e" * 16, ended_at="2026-01-02T00:00:00.000+00:00")
    archive.save(RECORD)
    archive.save(second)
    assert archive.newest(RECORD.asset, None) == second
    kept = sorted((archive.place(RECORD.asset, None) / "records").iterdir())
    assert [read_record(path) for path in kept] == [RECORD, second]


def test_what_is_missing_says_what_to_do(tmp_path):
    with pytest.raises(NotMaterialised, match=r"image_shards partition north .*ecg-pipeline materialize"):
        Archive(tmp_path).require("image_shards", "north")


upstreams = st.lists(
    st.builds(Upstream, st.sampled_from("abc"), st.sampled_from(["x", "y", None]), st.text(max_size=4)), max_size=5
)


@given(upstreams, st.text(), st.randoms())
def test_a_build_is_named_by_what_goes_in_not_by_its_order(upstream, code, random):
    shuffled = list(upstream)
    random.shuffle(shuffled)
    assert build_id(code, tuple(upstream)) == build_id(code, tuple(shuffled))


@given(upstreams, st.text(max_size=4), st.text(max_size=4))
def test_another_version_is_another_build(upstream, one, other):
    entry = Upstream("z", None, one)
    changed = replace(entry, data_version=other)
    same = build_id("c", (*upstream, entry)) == build_id("c", (*upstream, changed))
    assert same == (one == other)


def test_seeds_are_found_wherever_they_stand():
    payload = {"seed": 1, "recipe": {"mask": {"seed": 2}, "epochs": 3}, "finetuning": {"seeds": [0, 7]}}
    found = {"seed": 1, "recipe.mask.seed": 2, "finetuning.seeds.0": 0, "finetuning.seeds.1": 7}
    assert seeds_in(payload) == found
