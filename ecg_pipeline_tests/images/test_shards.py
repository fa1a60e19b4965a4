import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import shard_name, write_index, write_shard

RECIPE = SheetRecipe()


@pytest.fixture
def filtered(filtered_mv, tmp_path):
    """The real ECGs as a site of three shards, one of which is numbered past a gap."""
    rows = []
    for shard, begin, end in [(0, 0, 6), (1, 6, 12), (3, 12, 16)]:
        write_shard(tmp_path / "filtered", shard, filtered_mv[begin:end])
        rows += [(f"r{place:02d}", shard, place - begin) for place in range(begin, end)]
    write_index(
        tmp_path / "filtered",
        pl.DataFrame(rows, {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}, orient="row"),
    )
    return FilteredWaveforms(tmp_path / "filtered")


def test_a_site_is_rendered_ecg_by_ecg(filtered, filtered_mv, tmp_path):
    reported = []
    images = render_site(filtered, RECIPE, tmp_path / "out", progress=lambda *step: reported.append(step))
    assert reported == [(1, 3), (2, 3), (3, 3)]
    assert images.index().equals(filtered.index())
    chosen = images.read_ecgs(["r13", "r02", "r07"])
    assert chosen.dtype == np.uint8
    assert np.array_equal(chosen, render_many(filtered_mv[[13, 2, 7]], RECIPE))


def test_several_workers_give_the_same_images(filtered, tmp_path):
    one = render_site(filtered, RECIPE, tmp_path / "one")
    two = render_site(filtered, RECIPE, tmp_path / "two", workers=2)
    assert all(np.array_equal(one.read(shard), two.read(shard)) for shard in one.shards())


def test_a_stopped_site_goes_on_at_its_missing_shard(filtered, tmp_path):
    out = tmp_path / "out"
    images = render_site(filtered, RECIPE, out)
    before_stop, kept = images.read(1), out / "arrays.zarr" / shard_name(0) / "zarr.json"
    before = kept.stat().st_mtime_ns
    (out / "index.parquet").unlink()
    (out / "arrays.zarr" / shard_name(1) / "zarr.json").unlink()
    assert np.array_equal(render_site(filtered, RECIPE, out).read(1), before_stop)
    assert kept.stat().st_mtime_ns == before


def test_no_shard_of_a_whole_site_is_touched_again(filtered, tmp_path):
    render_site(filtered, RECIPE, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "arrays.zarr").rglob("*")}
    content = folder_digests(tmp_path / "out")
    render_site(filtered, RECIPE, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "arrays.zarr").rglob("*")} == before
    assert folder_digests(tmp_path / "out") == content
