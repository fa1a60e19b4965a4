"""Arrays in shards: what is written is read, and a shard is whole or absent."""

import numpy as np
import polars as pl
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import (
    ArrayShards,
    Shard,
    build_shards,
    ensure_shard,
    forget_input,
    write_index,
    write_shard,
)


def fill(folder, sizes):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (size, 6, 7)).astype(np.uint8) for size in sizes]
    rows = []
    for shard, array in enumerate(arrays):
        write_shard(folder, shard, array)
        rows += [(f"r{shard}-{row}", shard, row) for row in range(len(array))]
    index = pl.DataFrame(rows, schema={"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}, orient="row")
    write_index(folder, index)
    return ArrayShards(folder), arrays


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.sampled_from([1, 2, 9, 64, 65, 150]), min_size=1, max_size=4), data=st.data())
def test_any_ecgs_in_any_order(sizes, data, tmp_path_factory):
    shards, arrays = fill(tmp_path_factory.mktemp("tables"), sizes)
    every = [(shard, row) for shard, size in enumerate(sizes) for row in range(size)]
    wanted = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=6))
    read = shards.read_ecgs([f"r{shard}-{row}" for shard, row in wanted])
    assert (read == np.stack([arrays[shard][row] for shard, row in wanted])).all()
    assert len(shards) == sum(sizes)


def test_the_folder_is_a_zarr_v3_group_of_sharded_arrays(tmp_path):
    _, arrays = fill(tmp_path, [9, 3])
    group = zarr.open_group(str(tmp_path / "arrays.zarr"), mode="r")
    assert group.metadata.zarr_format == 3
    array = group["shard_00000"]
    assert array.shards is not None
    assert (array[:] == arrays[0]).all()


def test_an_unknown_ecg_is_named(tmp_path):
    shards, _ = fill(tmp_path, [2])
    with pytest.raises(KeyError, match="r9-9"):
        shards.read_ecgs(["r0-0", "r9-9"])


def test_equal_content_has_equal_bytes(tmp_path):
    fill(tmp_path / "a", [5, 4])
    fill(tmp_path / "b", [5, 4])
    assert folder_digests(tmp_path / "a") == folder_digests(tmp_path / "b")


FOLDERS = ["tables", "arrays.zarr"]


def ensured(out, input_digest, previous=None):
    """Whether shard 0 of `out` had to be written."""
    written = []

    def write():
        assert not (out / "arrays.zarr" / "shard_00000").exists()
        write_shard(out, 0, np.zeros((2, 3), np.uint8))
        written.append(0)

    ensure_shard(0, input_digest, write, out=out, previous=previous, folders=FOLDERS)
    assert (out / "arrays.zarr" / "shard_00000" / "zarr.json").exists()
    return bool(written)


def test_a_half_written_shard_is_none_and_is_cleared_away(tmp_path):
    half = tmp_path / "arrays.zarr" / ".shard_00000.77.tmp"
    half.mkdir(parents=True)
    note = tmp_path / ".input_digests" / ".shard_00000.77.tmp"
    note.parent.mkdir()
    note.write_text("half a dig")
    assert ensured(tmp_path, "a")
    fill(tmp_path, [2])
    assert not half.exists()
    assert not note.exists()


def test_a_shard_is_kept_only_if_its_input_is_the_same(tmp_path):
    assert [ensured(tmp_path, digest) for digest in "aabba"] == [True, False, True, False, True]


def test_a_shard_whose_input_is_forgotten_is_made_again_and_reused_by_nobody(tmp_path):
    assert ensured(tmp_path / "first", "a")
    assert not ensured(tmp_path / "second", "a", previous=tmp_path / "first")
    forget_input(0, tmp_path / "first")
    assert ensured(tmp_path / "third", "a", previous=tmp_path / "first")
    assert ensured(tmp_path / "first", "a")


def test_a_stage_makes_what_its_source_has_and_reuses_what_has_the_same_input(tmp_path):
    source, arrays = fill(tmp_path / "source", [3, 2])
    made = []

    def double(shard):
        made.append(shard)
        return Shard(2 * source.read(shard), {"units": "none"}, {"sizes": pl.DataFrame({"rows": [len(arrays[shard])]})})

    for out, previous, expected in (("a", None, [0, 1]), ("a", None, []), ("b", tmp_path / "a", [])):
        made.clear()
        build_shards(source, out=tmp_path / out, work=double, input_digest=source.digest, previous=previous)
        write_index(tmp_path / out, source.scan())
        assert made == expected
        assert (ArrayShards(tmp_path / out).read(1) == 2 * arrays[1]).all()
        assert pl.read_parquet(tmp_path / out / "tables" / "shard_00001" / "sizes.parquet")["rows"].item() == 2


def test_an_ecg_of_several_examples_is_read_as_its_first(tmp_path):
    array = np.arange(15).reshape(5, 3)
    write_shard(tmp_path, 0, array[:3])
    write_shard(tmp_path, 1, array[3:])
    names, begins = ["a", "b", "b", "c", "c"], [0.0, 0.0, 2.0, 0.0, 2.0]
    index = pl.DataFrame({"ecg_id": names, "shard": [0, 0, 0, 1, 1], "row": [0, 1, 2, 0, 1], "start_s": begins})
    write_index(tmp_path, index, ["start_s"])
    shards = ArrayShards(tmp_path)
    assert shards.index().equals(index)
    assert len(shards) == 5
    assert np.array_equal(shards.read_ecgs(["c", "a", "b", "c"]), array[[3, 0, 1, 3]])
    with pytest.raises(KeyError, match="the first is d"):
        shards.read_ecgs(["b", "d"])


def test_an_index_keeps_the_columns_that_are_asked_for(tmp_path):
    index = pl.DataFrame({"score": [1.0], "ecg_id": ["a"], "shard": [0], "row": [0]})
    write_index(tmp_path / "plain", index)
    write_index(tmp_path / "more", index, ("score",))
    assert ArrayShards(tmp_path / "plain").index().columns == ["ecg_id", "shard", "row"]
    assert ArrayShards(tmp_path / "more").index().columns == ["ecg_id", "shard", "row", "score"]


def test_attributes_are_those_of_the_first_shard_that_has_rows(tmp_path):
    shards, _ = fill(tmp_path / "bare", [2])
    assert shards.attributes() == {}
    write_shard(tmp_path / "some", 0, np.zeros((0, 3), np.float32), attributes={"units": "none"})
    write_shard(tmp_path / "some", 4, np.zeros((1, 3), np.float32), attributes={"units": "mV", "leads": ["I"]})
    write_index(tmp_path / "some", pl.DataFrame({"ecg_id": ["a"], "shard": [4], "row": [0]}))
    assert ArrayShards(tmp_path / "some").attributes() == {"units": "mV", "leads": ["I"]}
    write_index(tmp_path / "none", pl.DataFrame(schema={"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}))
    assert ArrayShards(tmp_path / "none").attributes() == {}
