import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter
from scipy.signal import butter, resample_poly, sosfiltfilt

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals.filters import FilterRecipe, band_pass, clean, crop, filter_site, median
from ecg_pipeline.storage.files import folder_digests, write_parquet
from ecg_pipeline.storage.shards import ensure_group, shard_name, write_array

RECIPE = FilterRecipe()
TIME = np.arange(2500) / 500
MIDDLE = slice(500, 2000)


def wave(hz: float) -> np.ndarray:
    return np.sin(2 * np.pi * hz * TIME + 0.3)


def gain(hz: float) -> float:
    """How much of a wave of `hz` the band-pass leaves, away from the ends."""
    return np.abs(band_pass(wave(hz), RECIPE)[MIDDLE]).max()


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(30, 600),
    st.integers(1, 4),
    st.sampled_from([1, 3, 5, 9]),
    st.integers(0, 2**32 - 1),
)
def test_the_kernel_is_scipy_bit_for_bit(rows, samples, order, kernel, seed):
    recipe = replace(RECIPE, order=order, median_samples=kernel)
    x = np.random.default_rng(seed).normal(size=(rows, samples)).cumsum(axis=-1).astype(np.float32)
    sos = butter(order, (0.5, 40), "bandpass", fs=500, output="sos")
    expected = sosfiltfilt(sos, x.astype(np.float64), padtype="even", padlen=min(samples - 1, 1000))
    assert np.array_equal(band_pass(x, recipe), expected)
    assert np.array_equal(clean(x, recipe), median_filter(expected, (1, kernel), mode="reflect").astype(np.float32))


@pytest.mark.parametrize("hz", [2, 10, 20])
def test_the_heart_passes(hz):
    assert gain(hz) == pytest.approx(1, abs=0.07)


@pytest.mark.parametrize("hz", [60, 100, 200])
def test_mains_and_muscle_are_attenuated(hz):
    assert gain(hz) < 0.2


def test_breathing_is_attenuated():
    minute = np.sin(2 * np.pi * 0.1 * np.arange(30000) / 500)
    assert np.abs(band_pass(minute, RECIPE)[5000:-5000]).max() < 0.01


def test_the_cut_offs_are_where_the_recipe_says():
    assert gain(40) == pytest.approx(0.5, abs=0.02)


@given(st.floats(-10, 10))
def test_a_constant_is_removed(level_mv):
    assert np.abs(band_pass(np.full((2, 2500), level_mv), RECIPE)).max() < 1e-6


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_filtering_has_no_direction_in_time(seed):
    x = np.zeros(2500)
    x[800:1700] = np.random.default_rng(seed).normal(size=900)
    forwards, backwards = band_pass(x, RECIPE), band_pass(x[::-1], RECIPE)[::-1]
    assert np.abs(forwards - backwards)[MIDDLE].max() < 0.01


def test_a_wave_stays_in_its_place():
    x = np.exp(-0.5 * ((TIME - 2.5) / 0.02) ** 2)
    assert band_pass(x, RECIPE).argmax() == x.argmax()


def test_the_band_pass_is_linear():
    slow, fast = wave(3), wave(25)
    assert np.allclose(band_pass(2 * slow + fast, RECIPE), 2 * band_pass(slow, RECIPE) + band_pass(fast, RECIPE))


def test_the_median_takes_out_a_spike_and_leaves_a_slope():
    slope = np.linspace(0, 1, 2500)[None]
    spiked = slope.copy()
    spiked[0, 1000] = 50
    assert np.abs(median(spiked, 3) - slope).max() < 0.001
    assert np.array_equal(median(spiked, 1), spiked)


def test_the_median_runs_along_time_only():
    leads = np.arange(8.0)[:, None] * np.ones(20)
    assert np.array_equal(median(leads, 3), leads)


def test_what_follows_the_first_five_seconds_does_not_matter(ptb_xl):
    of_ten = clean(crop(ptb_xl, 500, RECIPE), RECIPE)
    of_five = clean(crop(ptb_xl[..., :2500], 500, RECIPE), RECIPE)
    assert of_ten.shape == (16, 12, 2500)
    assert of_ten.dtype == np.float32
    assert np.array_equal(of_ten, of_five)


def test_recordings_in_one_call_do_not_touch_each_other(ptb_xl):
    x = crop(ptb_xl, 500, RECIPE)
    assert np.array_equal(clean(x, RECIPE)[3], clean(x[3], RECIPE))


@pytest.mark.parametrize("hz", [250, 1000])
def test_the_sampling_rate_hardly_matters(ptb_xl, hz):
    other = resample_poly(ptb_xl, hz, 500, axis=-1)
    difference = clean(crop(other, hz, RECIPE), RECIPE) - clean(crop(ptb_xl, 500, RECIPE), RECIPE)
    assert np.abs(difference).mean() < 0.001
    assert np.abs(difference[..., 50:-50]).max() < 0.01


def test_an_odd_rate_gives_the_same_length():
    assert crop(np.zeros((8, 1290)), 257, RECIPE).shape == (8, 2500)


def test_a_short_recording_is_an_error():
    with pytest.raises(ValueError, match="shorter than 5 s"):
        crop(np.zeros((8, 2499)), 500, RECIPE)


@pytest.mark.parametrize(
    "impossible",
    [
        {"low_hz": 0.0},
        {"low_hz": 50.0},
        {"high_hz": 250.0},
        {"order": 0},
        {"median_samples": 2},
        {"samples": 0},
    ],
)
def test_impossible_recipes_are_refused(impossible):
    with pytest.raises(ValueError, match=r"\d"):
        FilterRecipe(**impossible)


@pytest.fixture
def site(ptb_xl, tmp_path):
    """A store of two shards: twelve leads at 500 Hz, eight at 500 and 250 Hz, the records out of order."""
    eight = [LEADS.index(lead) for lead in INDEPENDENT_LEADS]
    slow = np.round(resample_poly(ptb_xl[12:], 1, 2, axis=-1), 3)
    arrays = [
        (0, LEADS, 500, ptb_xl[:5]),
        (0, INDEPENDENT_LEADS, 500, ptb_xl[5:8, eight]),
        (1, INDEPENDENT_LEADS, 500, ptb_xl[8:12, eight, :2500]),
        (1, INDEPENDENT_LEADS, 250, slow[:, eight]),
    ]
    folder, rows = tmp_path / "store", []
    ensure_group(folder / "waveforms.zarr")
    for shard, leads, hz, x_mv in arrays:
        array = f"{hz}hz_{'-'.join(leads)}_{x_mv.shape[-1]}"
        ensure_group(folder / "waveforms.zarr" / shard_name(shard))
        attributes = {"leads": list(leads), "sampling_hz": hz, "units": "counts"}
        counts = np.round(x_mv * 1000).astype(np.int16)
        write_array(folder / "waveforms.zarr" / shard_name(shard) / array, counts, attributes)
        rows += [
            {
                "ecg_id": f"{shard}{hz}{len(leads)}{row}",
                "shard": shard,
                "array": array,
                "row": row,
                "waveform_sha256": hashlib.sha256(counts[row].tobytes()).hexdigest(),
                "microvolts_per_count": [1.0] * len(leads),
                "leads": list(leads),
                "sampling_hz": hz,
                "samples": x_mv.shape[-1],
            }
            for row in range(len(x_mv))
        ]
    table = pl.DataFrame(rows, schema_overrides={"shard": pl.Int32, "row": pl.Int32, "sampling_hz": pl.Int32})
    write_parquet(folder / "ecgs.parquet", table.sample(fraction=1, shuffle=True, seed=1).sort("shard"))
    return WaveformStore(folder)


def test_a_site_is_filtered_record_by_record(site, ptb_xl, tmp_path):
    told = []
    filtered = filter_site(site, RECIPE, tmp_path / "out", progress=lambda *step: told.append(step))
    assert told == [(1, 2), (2, 2)]
    assert len(filtered) == 16
    assert filtered.index()["ecg_id"].sort().equals(site.ecgs()["ecg_id"].sort())
    x_mv = ptb_xl[:, [LEADS.index(lead) for lead in INDEPENDENT_LEADS]]
    expected = clean(crop(x_mv[[4, 5, 9]], 500, RECIPE), RECIPE)
    assert np.abs(filtered.read_ecgs(["0500124", "050080", "150081"]) - expected).max() < 1e-5
    slow = filtered.read_ecgs(["125082"])[0] - clean(crop(x_mv[14], 500, RECIPE), RECIPE)
    assert np.abs(slow).mean() < 0.002
    assert filtered.quality()["ecg_id"].equals(filtered.index()["ecg_id"])


def test_several_workers_write_what_one_writes(site, tmp_path):
    one = filter_site(site, RECIPE, tmp_path / "one")
    two = filter_site(site, RECIPE, tmp_path / "two", workers=2)
    assert one.index().equals(two.index())
    assert one.quality().equals(two.quality())
    for shard in one.shards():
        assert np.array_equal(one.read(shard), two.read(shard))


def test_a_stopped_site_goes_on_at_its_missing_shard(site, tmp_path):
    out = tmp_path / "out"
    whole = filter_site(site, RECIPE, out)
    quality, before = whole.quality(), (out / "arrays.zarr" / shard_name(0) / "zarr.json").stat().st_mtime_ns
    for name in ("index.parquet", "quality.parquet", f"arrays.zarr/{shard_name(1)}/zarr.json"):
        (out / name).unlink()
    again = filter_site(site, RECIPE, out)
    assert again.quality().equals(quality)
    assert again.read(1).shape == (8, 8, 2500)
    assert (out / "arrays.zarr" / shard_name(0) / "zarr.json").stat().st_mtime_ns == before


def test_no_shard_of_a_whole_site_is_touched_again(site, tmp_path):
    filter_site(site, RECIPE, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "arrays.zarr").rglob("*")}
    content = folder_digests(tmp_path / "out")
    filter_site(site, RECIPE, tmp_path / "out")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "arrays.zarr").rglob("*")} == before
    assert folder_digests(tmp_path / "out") == content


def test_another_length_is_another_recipe(ptb_xl):
    short = replace(RECIPE, samples=1000)
    assert clean(crop(ptb_xl, 500, short), short).shape[-1] == 1000
