"""Arrays in parts: what is written is read, and a part is whole or absent."""

import numpy as np
import polars as pl
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import ArrayParts, PartsWriter, forget_made_of


def fill(folder, sizes):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(0, 255, (size, 6, 7)).astype(np.uint8) for size in sizes]
    writer = PartsWriter(folder)
    rows = []
    for part, array in enumerate(arrays):
        writer.write(part, array)
        rows += [(f"r{part}-{row}", part, row) for row in range(len(array))]
    writer.finish(pl.DataFrame(rows, schema={"record": pl.String, "part": pl.Int32, "row": pl.Int32}, orient="row"))
    return ArrayParts(folder), arrays


@settings(max_examples=15, deadline=None)
@given(sizes=st.lists(st.sampled_from([1, 2, 9, 64, 65, 150]), min_size=1, max_size=4), data=st.data())
def test_any_records_in_any_order(sizes, data, tmp_path_factory):
    parts, arrays = fill(tmp_path_factory.mktemp("parts"), sizes)
    every = [(part, row) for part, size in enumerate(sizes) for row in range(size)]
    wanted = data.draw(st.lists(st.sampled_from(every), min_size=1, max_size=6))
    read = parts.read_records([f"r{part}-{row}" for part, row in wanted])
    assert (read == np.stack([arrays[part][row] for part, row in wanted])).all()
    assert len(parts) == sum(sizes)


def test_the_folder_is_a_zarr_v3_group_of_sharded_arrays(tmp_path):
    _, arrays = fill(tmp_path, [9, 3])
    group = zarr.open_group(str(tmp_path / "arrays.zarr"), mode="r")
    assert group.metadata.zarr_format == 3
    array = group["part_00000"]
    assert array.shards is not None
    assert (array[:] == arrays[0]).all()


def test_an_unknown_record_is_named(tmp_path):
    parts, _ = fill(tmp_path, [2])
    with pytest.raises(KeyError, match="r9-9"):
        parts.read_records(["r0-0", "r9-9"])


def test_equal_content_has_equal_bytes(tmp_path):
    fill(tmp_path / "a", [5, 4])
    fill(tmp_path / "b", [5, 4])
    assert folder_digests(tmp_path / "a") == folder_digests(tmp_path / "b")


def test_a_half_written_part_is_no_part_and_is_cleared_away(tmp_path):
    half = tmp_path / "arrays.zarr" / ".part_00000.77.tmp"
    half.mkdir(parents=True)
    note = tmp_path / ".made_of" / ".part_00000.77.tmp"
    note.parent.mkdir()
    note.write_text("half a dig")
    assert not PartsWriter(tmp_path).stands(0, "made of nothing")
    fill(tmp_path, [2])
    assert not half.exists()
    assert not note.exists()


def test_a_part_stands_only_if_it_was_made_of_the_same(tmp_path):
    for made_of, stood in [("a", False), ("a", True), ("b", False), ("b", True), ("a", False)]:
        writer = PartsWriter(tmp_path)
        assert writer.stands(0, made_of) is stood
        if not stood:
            assert not (tmp_path / "arrays.zarr" / "part_00000").exists()
            writer.write(0, np.zeros((2, 3), np.uint8))


def test_a_part_that_is_forgotten_is_made_again_and_taken_over_by_nobody(tmp_path):
    writer = PartsWriter(tmp_path / "first")
    writer.stands(0, "a")
    writer.write(0, np.zeros((2, 3), np.uint8))
    assert PartsWriter(tmp_path / "second", tmp_path / "first").stands(0, "a")
    forget_made_of(0, tmp_path / "first")
    assert not PartsWriter(tmp_path / "third", tmp_path / "first").stands(0, "a")
    assert not writer.stands(0, "a")
