"""Of each ancestor one version goes in, or it is told which, by what, and what must be made again."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.provenance.ancestry import Conflict, conflicts, outdated, partition_name
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Upstream
from ecg_pipeline_tests.provenance.test_record import RECORD

FITTED = "tokenizer"


def is_fitted(asset):
    return asset == FITTED


def at(asset, version, partition=None):
    return Upstream(asset, partition, version)


def keep(archive, entry, *upstream, day=1):
    """Keep a record of an output with this content, made of these entries."""
    made = replace(
        RECORD,
        asset=entry.asset,
        partition=entry.partition,
        data_version=entry.data_version,
        build=f"{entry.asset}-{entry.data_version}-{day}",
        upstream=upstream,
        ended_at=f"2026-01-{day:02}T00:00:00.000+00:00",
    )
    archive.save(made)
    return entry


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path)


def test_one_version_by_two_ways_is_no_conflict(archive):
    store = keep(archive, at("store", "1"))
    sheets, cohort = (keep(archive, at(asset, "1"), store) for asset in ("sheets", "cohort"))
    assert conflicts(archive, [sheets, cohort, store], is_fitted) == ()


def test_what_came_by_an_older_version_is_named_in_the_order_in_which_it_is_made(archive):
    old, new = keep(archive, at("store", "1")), keep(archive, at("store", "2"), day=2)
    waves = keep(archive, at("waves", "1"), old)
    sheets = keep(archive, at("sheets", "1"), waves)
    keep(archive, at("waves", "2"), new, day=2)
    cohort = keep(archive, at("cohort", "2"), new, day=2)
    (found,) = conflicts(archive, [sheets, cohort], is_fitted)
    assert found == Conflict(("store", None), {"1": (("waves", None), ("sheets", None)), "2": (("cohort", None),)})
    assert outdated(found, "2") == (("waves", None), ("sheets", None))
    assert outdated(found, "1") == (("cohort", None),)
    assert set(outdated(found, "3")) == {("waves", None), ("sheets", None), ("cohort", None)}


def test_tokens_of_two_tokenizers_are_a_conflict_and_say_of_which_site(archive):
    old, new = keep(archive, at(FITTED, "1")), keep(archive, at(FITTED, "2"), day=2)
    north = keep(archive, at("tokens", "n", "north"), old)
    south = keep(archive, at("tokens", "s", "south"), new)
    (found,) = conflicts(archive, [north, south, new], is_fitted)
    assert [partition_name(place) for place in outdated(found, "2")] == ["tokens north"]


def test_sites_are_told_apart(archive):
    north, south = keep(archive, at("store", "1", "north")), keep(archive, at("store", "2", "south"))
    assert conflicts(archive, [north, south], is_fitted) == ()


def test_what_stands_behind_something_fitted_may_be_older(archive):
    old, new = keep(archive, at("store", "1")), keep(archive, at("store", "2"), day=2)
    tokenizer = keep(archive, at(FITTED, "1"), old)
    tokens = keep(archive, at("tokens", "1"), tokenizer, new)
    assert conflicts(archive, [tokens, tokenizer, new], is_fitted) == ()


def test_content_that_was_made_again_of_something_newer_counts_as_made_of_that(archive):
    old, new = keep(archive, at("raw", "1")), keep(archive, at("raw", "2"), day=2)
    labels = keep(archive, at("labels", "1"), old)
    store = keep(archive, at("store", "2"), new, day=2)
    assert conflicts(archive, [labels, store], is_fitted)
    keep(archive, at("labels", "1"), new, day=3)
    assert conflicts(archive, [labels, store], is_fitted) == ()


ASSETS = ("a", "b", FITTED, "c", "d")
"""Each may read those that stand before it."""

Graph = dict[Upstream, tuple[Upstream, ...]]


@st.composite
def histories(draw) -> tuple[Graph, tuple[Upstream, ...]]:
    """What was made of what, in up to three versions of each asset, and what an output would read."""
    made: Graph = {}
    for asset in ASSETS:
        for version in range(draw(st.integers(1, 3))):
            before = [entry for entry in made if entry.asset != asset]
            read = draw(st.lists(st.sampled_from(before), max_size=3, unique=True)) if before else []
            made[at(asset, str(version))] = tuple(read)
    return made, tuple(draw(st.lists(st.sampled_from(list(made)), min_size=1, max_size=4, unique=True)))


def paths(made: Graph, read: tuple[Upstream, ...], by: tuple[Upstream, ...] = ()) -> Iterator[tuple[Upstream, ...]]:
    """Every path from an output to an ancestor that passes through nothing fitted, one after the other."""
    for entry in read:
        yield (*by, entry)
        if not is_fitted(entry.asset):
            yield from paths(made, made[entry], (*by, entry))


@given(histories())
@settings(max_examples=30, deadline=None)
def test_there_is_a_conflict_just_where_two_paths_end_in_two_versions(history):
    made, read = history
    with tempfile.TemporaryDirectory() as folder:
        for day, (entry, upstream) in enumerate(made.items(), start=1):
            keep(Archive(Path(folder)), entry, *upstream, day=day)
        found = {conflict.ancestor[0]: conflict for conflict in conflicts(Archive(Path(folder)), read, is_fitted)}
    walked = list(paths(made, read))
    ends = {asset: {path[-1] for path in walked if path[-1].asset == asset} for asset in ASSETS}
    assert set(found) == {asset for asset, entries in ends.items() if len(entries) > 1}
    for asset, conflict in found.items():
        assert set(conflict.through) == {entry.data_version for entry in ends[asset]}
        for version, places in conflict.through.items():
            between = [path[:-1] for path in walked if path[-1] == at(asset, version)]
            assert set(places) == {(entry.asset, None) for path in between for entry in path}
