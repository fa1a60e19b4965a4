"""What a site of mixed recordings becomes when it is cut into windows."""

import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals import windows as windows_module
from ecg_pipeline.signals.filters import FilterRecipe, filter_site
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe, cut_site, cut_windows
from ecg_pipeline.storage.files import folder_digests, write_parquet
from ecg_pipeline.storage.shards import ensure_group, shard_name, write_array
from ecg_pipeline_tests.signals.small import ECG_FM, RECIPE, noise

ARRAYS = [
    (0, LEADS, 500, 70, 3000),
    (0, INDEPENDENT_LEADS, 250, 3, 1250),
    (1, INDEPENDENT_LEADS, 500, 2, 2500),
    (1, LEADS, 257, 3, 300),
    (2, LEADS, 500, 2, 900),
]
"""Shard, leads, rate, ECGs and samples. The last two are shorter than two seconds."""


@pytest.fixture
def site(tmp_path):
    """A store of three shards with mixed leads, rates and lengths, the ECGs out of order; the last shard is short."""
    folder, rows = tmp_path / "store", []
    ensure_group(folder / "waveforms.zarr")
    for place, (shard, leads, hz, count, samples) in enumerate(ARRAYS):
        array = f"{hz}hz_{len(leads)}_{samples}"
        ensure_group(folder / "waveforms.zarr" / shard_name(shard))
        counts = np.round(noise(count, len(leads), samples, seed=place) * 500).astype(np.int16)
        write_array(folder / "waveforms.zarr" / shard_name(shard) / array, counts, {"leads": list(leads)})
        rows += [
            {
                "ecg_id": f"{place}-{row}",
                "shard": shard,
                "array": array,
                "row": row,
                "waveform_sha256": hashlib.sha256(counts[row].tobytes()).hexdigest(),
                "microvolts_per_count": [2.0] * len(leads),
                "leads": list(leads),
                "sampling_hz": hz,
                "samples": samples,
            }
            for row in range(count)
        ]
    types = {"shard": pl.Int32, "row": pl.Int32, "sampling_hz": pl.Int32, "samples": pl.Int32}
    table = pl.DataFrame(rows, schema_overrides=types)
    write_parquet(folder / "ecgs.parquet", table.sample(fraction=1, shuffle=True, seed=1).sort("shard"))
    return WaveformStore(folder)


def recorded(store, ecg_id, leads):
    rows = store.ecgs().filter(ecg_id=ecg_id)
    _, x_mv = next(store.millivolts(rows, leads))
    return x_mv, rows["sampling_hz"][0]


RECIPES = [
    RECIPE,
    replace(ECG_FM, seconds=1.0),
    WindowRecipe(("aVF", "V6", "II"), sampling_hz=250, seconds=2.0, crop="all", short="pad", standardise="recording"),
    replace(RECIPE, filter=BandPass(low_hz=0.5, high_hz=150.0), short="pad"),
    replace(RECIPE, standardise="lead"),
    replace(RECIPE, seconds=1.0, crop="all"),
    replace(RECIPE, seconds=1.0, crop=2, filter=NotchBandPassMedian(), standardise="recording"),
]


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_site_is_cut_recording_by_recording(site, tmp_path, recipe):
    told = []
    windows = cut_site(site, recipe, tmp_path / "out", progress=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert windows.attributes() == {
        "leads": list(recipe.leads),
        "sampling_hz": recipe.sampling_hz,
        "units": recipe.units,
    }
    index = windows.index()
    assert index.schema == windows_module.INDEX_SCHEMA
    for shard in windows.shards():
        array, of_shard = windows.read(shard), index.filter(shard=shard)
        assert array.dtype == np.float32
        assert of_shard["row"].to_list() == list(range(len(array)))
        for (ecg_id,), rows in of_shard.group_by("ecg_id", maintain_order=True):
            x_mv, hz = recorded(site, ecg_id, recipe.leads)
            assert np.array_equal(array[rows["row"].to_numpy()], cut_windows(x_mv, hz, recipe)[0])
            assert np.allclose(rows["start_s"], np.arange(len(rows)) * recipe.seconds)
            assert np.allclose(
                rows["recorded_s"], min(recipe.seconds, x_mv.shape[-1] / hz), atol=1 / recipe.sampling_hz
            )
    left_out, ecgs = windows.left_out(), site.ecgs()
    assert left_out.schema == windows_module.LEFT_OUT_SCHEMA
    assert set(left_out["ecg_id"]).isdisjoint(index["ecg_id"])
    assert set(left_out["ecg_id"]) | set(index["ecg_id"]) == set(ecgs["ecg_id"])


def test_short_recordings_are_listed_or_padded(site, tmp_path):
    left_out = cut_site(site, RECIPE, tmp_path / "left_out")
    expected = {"3-0": 300 / 257, "3-1": 300 / 257, "3-2": 300 / 257, "4-0": 1.8, "4-1": 1.8}
    assert dict(left_out.left_out().iter_rows()) == pytest.approx(expected)
    assert left_out.shards() == [0, 1]
    padded = cut_site(site, replace(RECIPE, short="pad"), tmp_path / "padded")
    assert len(padded.left_out()) == 0
    assert padded.shards() == [0, 1, 2]
    assert dict(padded.index().filter(shard=2).select("ecg_id", "recorded_s").iter_rows()) == pytest.approx(
        {"4-0": 1.8, "4-1": 1.8}
    )
    assert not padded.read(2)[..., 900:].any()
    assert padded.read(2)[..., 880:900].any()


def test_a_site_of_short_recordings_alone_is_empty(site, tmp_path):
    windows = cut_site(site, replace(RECIPE, seconds=20.0), tmp_path / "out")
    assert (len(windows), windows.shards(), windows.attributes()) == (0, [], {})
    assert windows.index().schema == windows_module.INDEX_SCHEMA
    assert len(windows.left_out()) == 80


def test_the_order_is_that_of_the_filtered_waveforms(site, tmp_path):
    windows = cut_site(site, replace(RECIPE, seconds=1.0, crop="all"), tmp_path / "windows")
    filtered = filter_site(site, FilterRecipe(samples=500), tmp_path / "filtered")
    assert windows.index()["ecg_id"].unique(maintain_order=True).equals(filtered.index()["ecg_id"])
    assert windows.read_ecgs(["0-3"]).shape == (1, 12, 500)
    begins = windows.index().filter(ecg_id="0-3")["start_s"].to_list()
    assert begins == [0, 1, 2, 3, 4, 5]


def test_limb_leads_are_derived_where_they_were_not_recorded(site, tmp_path):
    windows = cut_site(site, RECIPE, tmp_path / "out")
    cut = windows.read_ecgs(["1-0", "2-1"])
    assert np.allclose(cut[:, 0] + cut[:, 2], cut[:, 1], atol=1e-4)


def test_several_workers_and_a_stopped_site_give_the_same_files(site, tmp_path):
    recipe, out = RECIPES[1], tmp_path / "one"
    cut_site(site, recipe, out)
    whole = folder_digests(out)
    cut_site(site, recipe, tmp_path / "two", workers=2)
    assert folder_digests(tmp_path / "two") == whole
    kept = out / "arrays.zarr" / shard_name(0) / "zarr.json"
    before = kept.stat().st_mtime_ns
    for name in ("index.parquet", "left_out.parquet", f"arrays.zarr/{shard_name(1)}/zarr.json"):
        (out / name).unlink()
    (out / "arrays.zarr" / f".{shard_name(1)}.0.tmp").mkdir()
    cut_site(site, recipe, out)
    assert folder_digests(out) == whole
    assert not list((out / "arrays.zarr").glob(".*.tmp"))
    assert kept.stat().st_mtime_ns == before


def test_a_later_site_reuses_the_shards_whose_waveforms_and_scales_are_as_they_were(site, tmp_path, monkeypatch):
    cut_site(site, RECIPE, tmp_path / "first")
    cut, made = windows_module._cut_shard, []

    def counted(store, recipe, shard):
        made.append(shard)
        return cut(store, recipe, shard)

    monkeypatch.setattr(windows_module, "_cut_shard", counted)
    cut_site(site, RECIPE, tmp_path / "second", previous=tmp_path / "first")
    assert made == []
    assert folder_digests(tmp_path / "second") == folder_digests(tmp_path / "first")
    doubled = pl.when(pl.col("ecg_id") == "2-0").then(pl.col("microvolts_per_count").list.eval(pl.element() * 2))
    scaled = site.ecgs().with_columns(doubled.otherwise("microvolts_per_count").alias("microvolts_per_count"))
    write_parquet(site.folder / "ecgs.parquet", scaled)
    third = cut_site(site, RECIPE, tmp_path / "third", previous=tmp_path / "second")
    assert made == [1]
    first = windows_module.WaveformWindows(tmp_path / "first")
    assert np.allclose(third.read_ecgs(["2-0", "2-1"]), first.read_ecgs(["2-0", "2-1"]) * [[[2]], [[1]]])
