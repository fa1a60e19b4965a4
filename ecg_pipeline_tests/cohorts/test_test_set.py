"""A test set holds what models read of the tested ECGs; one that a view lacks is tested by no model, and counted."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.cohorts.test_set import assemble_test_set
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard

IMAGES, WINDOWS = "image_shards", "waveform_windows/ten_seconds"
TESTED = pl.DataFrame(
    {"ecg_id": ["e", "b", "d", "a"], "site": "s", "patient": ["p", "p", "q", "r"], "label": [0, 1, 0, 1]}
)


def view(folder, shards, shape, **attributes):
    """A view with an example for each name in each of the shards; every example is filled with its place."""
    index, place = [], 0
    for shard, names in shards.items():
        array = np.stack([np.full(shape, place + row, np.float32) for row in range(len(names))])
        write_shard(folder, shard, array, attributes=attributes)
        index += [(name, shard, row) for row, name in enumerate(names)]
        place += len(names)
    schema = {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}
    write_index(folder, pl.DataFrame(index, schema=schema, orient="row"))
    return ArrayShards(folder)


@pytest.fixture
def images(tmp_path):
    return view(tmp_path / "images", {0: "abc", 2: "de"}, (4, 4))


@pytest.fixture
def windows(tmp_path):
    """Windows, several of an ECG, and none of d."""
    return view(tmp_path / "windows", {0: "aab", 1: "ceee"}, (2, 8), leads=["I", "II"], sampling_hz=100)


def test_the_tested_ecgs_are_those_that_every_view_has(images, windows, tmp_path):
    made = assemble_test_set(TESTED, {IMAGES: images, WINDOWS: windows}, tmp_path / "out")
    assert made.table().rows() == [row for row in TESTED.sort("ecg_id").rows() if row[0] != "d"]
    assert made.left_out() == {IMAGES: 0, WINDOWS: 1}
    for name in (IMAGES, WINDOWS):
        assert set(made.view(name).index()["ecg_id"]) == {"a", "b", "e"}


def test_the_order_of_the_views_changes_nothing(images, windows, tmp_path):
    one = assemble_test_set(TESTED, {IMAGES: images, WINDOWS: windows}, tmp_path / "one")
    other = assemble_test_set(TESTED, {WINDOWS: windows, IMAGES: images}, tmp_path / "other")
    assert one.left_out() == other.left_out()
    assert folder_digests(one.folder / "views") == folder_digests(other.folder / "views")
    assert one.table().equals(other.table())


def test_a_view_is_copied_as_it_is_with_all_examples_of_an_ecg_in_their_order(images, windows, tmp_path):
    made = assemble_test_set(TESTED, {IMAGES: images, WINDOWS: windows}, tmp_path / "out")
    for name, source in ((IMAGES, images), (WINDOWS, windows)):
        copied = made.view(name)
        assert copied.attributes() == source.attributes()
        for ecg in ("a", "b", "e"):
            read = [
                [array[row] for rows, array in shards for row in rows.with_row_index().filter(ecg_id=ecg)["index"]]
                for shards in (source, copied)
            ]
            assert np.array_equal(*read)
    assert made.view(WINDOWS).index()["ecg_id"].to_list() == ["a", "a", "b", "e", "e", "e"]
    assert len(made.view(IMAGES)) == 3


def test_an_ecg_that_two_views_lack_is_counted_in_each(images, windows, tmp_path):
    tested = pl.concat([TESTED, TESTED.head(1).with_columns(ecg_id=pl.lit("z"))])
    made = assemble_test_set(tested, {IMAGES: images, WINDOWS: windows}, tmp_path / "out")
    assert made.left_out() == {IMAGES: 1, WINDOWS: 2}
    assert made.table()["ecg_id"].to_list() == ["a", "b", "e"]


def test_a_site_without_tested_ecgs_has_empty_views(images, tmp_path):
    made = assemble_test_set(TESTED.clear(), {IMAGES: images}, tmp_path / "out")
    assert made.table().is_empty()
    assert made.table().schema == TESTED.schema
    assert len(made.view(IMAGES)) == 0
    assert made.left_out() == {IMAGES: 0}


def test_nothing_of_an_ecg_that_is_not_tested_is_copied(images, tmp_path):
    made = assemble_test_set(TESTED.filter(ecg_id="b"), {IMAGES: images}, tmp_path / "out")
    copied = made.view(IMAGES)
    assert copied.shards() == [0]
    assert copied.read(0).tolist() == images.read_ecgs(["b"]).tolist()
