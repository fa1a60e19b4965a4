"""Windows of waveforms: laws of one block, and what a site of mixed recordings becomes."""

import hashlib
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.signal import butter, filtfilt, iirnotch, medfilt, resample_poly, sosfiltfilt

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS, RecipeError
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.leads import derive
from ecg_pipeline.signals import windows as windows_module
from ecg_pipeline.signals.example import example_window
from ecg_pipeline.signals.filters import FilterRecipe, filter_site
from ecg_pipeline.signals.kernels import subtract_median
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe, cut_site, cut_windows
from ecg_pipeline.storage.files import folder_digests, write_parquet
from ecg_pipeline.storage.shards import ensure_group, shard_name, write_array

RECIPE = WindowRecipe(seconds=2.0)
ECG_FM = WindowRecipe(resampling="linear", seconds=5.0, crop="all", standardise="lead")
LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
RATES = st.sampled_from([100, 250, 257, 300, 500, 977, 1000])


def noise(*shape, seed=0):
    """A random walk in millivolts."""
    return np.random.default_rng(seed).normal(0, 0.05, shape).cumsum(axis=-1).astype(np.float32)


# One block


@LAW
@given(RATES, RATES, st.integers(2, 900), SEEDS)
def test_linear_resampling_reads_the_grid_of_ecg_fm(recorded_hz, wanted_hz, samples, seed):
    x = noise(2, 3, samples, seed=seed)
    length = int(samples * wanted_hz / recorded_hz)
    assume(length >= 2)
    recipe = WindowRecipe(resampling="linear", sampling_hz=wanted_hz, seconds=length / wanted_hz)
    cut = cut_windows(x, recorded_hz, recipe)
    grid = np.linspace(0, length - 1, samples)
    expected = [[np.interp(np.arange(length), grid, lead) for lead in ecg] for ecg in x]
    assert cut.shape == (2, 1, 3, length)
    assert np.array_equal(cut[:, 0], np.array(expected, np.float32))


@LAW
@given(st.sampled_from(["polyphase", "linear"]), RATES, SEEDS)
def test_an_equal_rate_changes_nothing(resampling, hz, seed):
    x = noise(2, 12, 2 * hz, seed=seed)
    assert np.array_equal(cut_windows(x, hz, replace(RECIPE, resampling=resampling, sampling_hz=hz))[:, 0], x)


@LAW
@given(RATES, SEEDS)
def test_polyphase_resampling_is_scipys(hz, seed):
    x = noise(2, 3, 2 * hz + 7, seed=seed)
    expected = resample_poly(x, 500, hz, axis=-1, padtype="line")[..., :1000] if hz != 500 else x[..., :1000]
    assert np.allclose(cut_windows(x, hz, RECIPE)[:, 0], expected, atol=1e-5)


def test_only_polyphase_resampling_filters_against_aliasing():
    mains = np.sin(2 * np.pi * 180 * np.arange(2000) / 1000 + 0.3)[None, None]
    kept = {
        resampling: cut_windows(mains, 1000, replace(RECIPE, resampling=resampling, sampling_hz=250)).std()
        for resampling in ("polyphase", "linear")
    }
    assert kept["polyphase"] < 0.02
    assert kept["linear"] > 0.5


@LAW
@given(st.sampled_from(["polyphase", "linear"]), RATES, SEEDS)
def test_standardised_leads_have_mean_0_and_deviation_1_over_the_whole_recording(resampling, hz, seed):
    x = noise(3, 4, 4 * hz, seed=seed)
    recipe = replace(RECIPE, resampling=resampling, crop="all", standardise="lead")
    whole = np.concatenate(np.moveaxis(cut_windows(x, hz, recipe), 1, 0), axis=-1)
    assert whole.shape == (3, 4, 2000)
    assert np.abs(whole.mean(axis=-1)).max() < 1e-5
    assert np.allclose(whole.std(axis=-1), 1, atol=1e-5)
    first = cut_windows(x, hz, replace(recipe, crop="first"))
    assert np.array_equal(first[:, 0], whole[..., :1000])


@LAW
@given(SEEDS)
def test_a_recording_standardised_as_one_keeps_the_ratios_of_its_leads(seed):
    x = noise(3, 4, 1000, seed=seed)
    cut = cut_windows(x, 500, replace(RECIPE, standardise="recording"))[:, 0]
    assert np.abs(cut.mean(axis=(1, 2))).max() < 1e-5
    assert np.allclose(cut.std(axis=(1, 2)), 1, atol=1e-5)
    assert np.allclose(
        np.ptp(cut, axis=-1) / np.ptp(cut[:, :1], axis=-1), np.ptp(x, axis=-1) / np.ptp(x[:, :1], axis=-1)
    )


FILTERS = st.sampled_from([None, BandPass(), NotchBandPassMedian()])


@LAW
@given(st.floats(-300, 300, width=32), RATES, st.sampled_from(["polyphase", "linear"]), FILTERS)
def test_a_constant_lead_standardised_by_itself_becomes_0(level_mv, hz, resampling, chosen):
    x = noise(2, 3, 2 * hz)
    x[:, 1] = level_mv
    cut = cut_windows(x, hz, replace(RECIPE, resampling=resampling, filter=chosen, standardise="lead"))
    assert np.array_equal(cut[:, :, 1], np.zeros((2, 1, 1000)))
    assert (cut[:, :, [0, 2]].std(axis=-1) > 1e-4).all()
    assert np.isfinite(cut).all()


@LAW
@given(st.floats(-3, 3, width=32), RATES, st.sampled_from(["polyphase", "linear"]), FILTERS)
def test_a_constant_lead_of_a_recording_standardised_as_one_stays_constant(level_mv, hz, resampling, chosen):
    x = noise(2, 3, 2 * hz)
    x[:, 1] = level_mv
    recipe = replace(RECIPE, resampling=resampling, filter=chosen, standardise="recording")
    cut = cut_windows(x, hz, recipe)
    assert np.isfinite(cut).all()
    # Polyphase resampling leaves a ripple of a thousandth of the level.
    ripple = 0.02 * max(1, abs(level_mv)) if resampling == "polyphase" else 1e-3
    assert np.ptp(cut[:, :, 1], axis=-1).max() < ripple
    assert (cut[:, :, [0, 2]].std(axis=-1) > 1e-2).all()
    x[:] = level_mv
    assert not cut_windows(x, hz, recipe).any()


def test_a_derived_lead_that_only_rounding_moves_is_constant():
    x = noise(1, 1, 1000)
    rounding = (x.astype(float) * 1e-16).astype(np.float32)
    nanovolt = np.resize(np.float32([0.8e-6, -0.8e-6]), x.shape)
    cut = cut_windows(np.concatenate([x, rounding, nanovolt], axis=1), 500, replace(RECIPE, standardise="lead"))
    assert not cut[0, 0, 1:].any()


@LAW
@given(st.floats(0.01, 100), RATES, st.sampled_from(["polyphase", "linear"]), SEEDS)
def test_the_gain_of_a_lead_is_lost_by_standardising_it(gain, hz, resampling, seed):
    x = noise(2, 3, 2 * hz, seed=seed)
    recipe = replace(RECIPE, resampling=resampling, standardise="lead")
    assert np.allclose(cut_windows(gain * x, hz, recipe), cut_windows(x, hz, recipe), atol=1e-3)


@LAW
@given(
    RATES,
    st.sampled_from(["polyphase", "linear"]),
    st.sampled_from([None, BandPass(low_hz=0.5, high_hz=40.0), BandPass(low_hz=0.67, high_hz=150.0, order=4)]),
    SEEDS,
)
def test_cut_leads_obey_einthoven_and_goldberger(hz, resampling, chosen, seed):
    x = derive(noise(2, 8, 2 * hz, seed=seed))
    cut = cut_windows(x, hz, replace(RECIPE, resampling=resampling, filter=chosen))
    lead = {name: cut[:, :, place] for place, name in enumerate(LEADS)}
    assert np.allclose(lead["I"] + lead["III"], lead["II"], atol=1e-4)
    assert np.allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-4)


@LAW
@given(st.integers(1, 3600), st.integers(2, 700), SEEDS)
def test_all_windows_are_the_beginning_of_the_recording(recorded, window, seed):
    x = noise(2, 3, recorded, seed=seed)
    recipe = WindowRecipe(seconds=window / 500, crop="all")
    cut = cut_windows(x, 500, recipe)
    assert cut.shape == (2, recorded // window, 3, window)
    whole = recorded // window * window
    assert np.array_equal(np.moveaxis(cut, 1, 2).reshape(2, 3, whole), x[..., :whole])
    assert np.array_equal(cut_windows(x, 500, replace(recipe, crop="first")), cut[:, :1])


@pytest.mark.parametrize(
    ("recorded", "windows"), [(999, 0), (1000, 1), (1999, 1), (2000, 2), (2999, 2), (3000, 3), (9000, 3)]
)
def test_a_crop_to_a_number_takes_at_most_so_many_windows_from_the_start(recorded, windows):
    x = noise(2, 3, recorded)
    few, every = (cut_windows(x, 500, replace(RECIPE, crop=crop)) for crop in (3, "all"))
    assert few.shape[1] == windows
    assert np.array_equal(few, every[:, :windows])


@LAW
@given(st.integers(1, 2500), RATES, st.sampled_from(["polyphase", "linear"]))
def test_what_is_too_short_is_left_out_or_padded_with_zeros(recorded, hz, resampling):
    x = noise(2, 3, recorded) + 1
    recipe = replace(RECIPE, resampling=resampling)
    is_short = recorded < 2 * hz
    assert cut_windows(x, hz, recipe).shape[1] == (0 if is_short else 1)
    padded = cut_windows(x, hz, replace(recipe, short="pad"))[:, 0]
    length = min(1000, recorded * 500 // hz)
    assert padded.shape == (2, 3, 1000)
    assert not padded[..., length:].any()
    if hz == 500:
        assert np.array_equal(padded[..., :length], x[..., :1000])


def test_padding_is_no_part_of_the_mean():
    x = noise(1, 2, 600) + 5
    cut = cut_windows(x, 500, replace(RECIPE, short="pad", standardise="lead"))[0, 0]
    assert np.abs(cut[:, :600].mean(axis=-1)).max() < 1e-5
    assert not cut[:, 600:].any()


@pytest.mark.parametrize(
    ("hz", "high_hz", "kind"), [(500, 40.0, "bandpass"), (257, 150.0, "highpass"), (300, 150.0, "highpass")]
)
def test_the_band_pass_is_applied_as_recorded_as_far_as_its_band_was_recorded(hz, high_hz, kind):
    x = noise(2, 3, 2 * hz)
    recipe = replace(RECIPE, sampling_hz=hz, filter=BandPass(low_hz=0.67, high_hz=high_hz, order=3))
    sos = butter(3, (0.67, high_hz) if kind == "bandpass" else 0.67, kind, fs=hz, output="sos")
    expected = sosfiltfilt(sos, x.astype(float), padtype="even", padlen=round(hz / 0.67))
    assert np.allclose(cut_windows(x, hz, recipe)[:, 0], expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:kernel_size exceeds volume extent")
@LAW
@given(st.sampled_from([1, 2, 9, 27, 28, 200, 1300, 5000]), st.sampled_from([50.0, 60.0]), SEEDS)
def test_the_filter_of_ecgfounder_is_scipys(samples, notch_hz, seed):
    x = noise(2, 3, samples, seed=seed).astype(float)
    padded = min(9, samples - 1), min(27, samples - 1)
    notched = filtfilt(*iirnotch(notch_hz, 30, fs=500), x, padlen=padded[0])
    passed = sosfiltfilt(butter(4, (0.67, 40.0), "bandpass", fs=500, output="sos"), notched, padlen=padded[1])
    expected = passed - np.apply_along_axis(medfilt, -1, passed, 201)
    assert np.allclose(NotchBandPassMedian(notch_hz=notch_hz).resampled(x, 500), expected, rtol=0, atol=1e-9)


@pytest.mark.filterwarnings("ignore:kernel_size exceeds volume extent")
@LAW
@given(st.integers(1, 700), st.sampled_from([1, 3, 9, 65, 201]), st.sampled_from([0, 1, 16]), SEEDS)
def test_the_subtracted_median_is_scipys_bit_for_bit_where_values_repeat_too(samples, window, digits, seed):
    x = np.round(noise(3, samples, seed=seed).astype(float), digits)
    found = x.copy()
    subtract_median(found, window)
    assert np.array_equal(found, x - np.apply_along_axis(medfilt, -1, x, window))


def test_ecgfounders_filter_acts_on_resampled_signals():
    x = noise(1, 3, 2500)
    recipe = replace(RECIPE, filter=NotchBandPassMedian(), resampling="linear")
    resampled = cut_windows(x, 250, replace(recipe, filter=None, seconds=10.0))
    expected = NotchBandPassMedian().resampled(resampled[0, 0], 500)
    assert np.allclose(cut_windows(x, 250, recipe)[0, 0], expected[:, :1000], atol=1e-6)


def test_nothing_passes_a_band_above_all_that_was_recorded():
    cut = cut_windows(noise(1, 2, 100), 50, replace(RECIPE, filter=BandPass(low_hz=30.0, high_hz=40.0)))
    assert not cut.any()


@LAW
@given(
    st.sampled_from(
        [RECIPE, ECG_FM, replace(RECIPE, filter=BandPass(low_hz=0.5, high_hz=40.0), standardise="recording")]
    ),
    RATES,
)
def test_recordings_of_a_block_do_not_touch_each_other(recipe, hz):
    x = noise(3, 12, 10 * hz)
    assert np.array_equal(cut_windows(x, hz, recipe)[1:2], cut_windows(x[1:2], hz, recipe))


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"leads": ()}, "leads"),
        ({"leads": ("I", "V7")}, "leads"),
        ({"leads": ("I", "II", "I")}, "leads"),
        ({"sampling_hz": 0}, "sampling_hz"),
        ({"seconds": 0.0}, "seconds"),
        ({"seconds": -2.0}, "seconds"),
        ({"seconds": float("nan")}, "seconds"),
        ({"seconds": float("inf")}, "seconds"),
        ({"seconds": 0.002}, "seconds"),
        ({"seconds": 2.001}, "seconds"),
        ({"filter": BandPass(low_hz=300.0, high_hz=400.0)}, "filter.low_hz"),
        ({"filter": NotchBandPassMedian(high_hz=260.0)}, "filter.high_hz"),
        ({"filter": NotchBandPassMedian(), "sampling_hz": 100}, "filter.notch_hz"),
        ({"crop": 1}, "crop"),
        ({"crop": -2}, "crop"),
    ],
)
def test_impossible_recipes_are_refused(wrong, key):
    with pytest.raises(RecipeError) as error:
        WindowRecipe(**wrong)
    assert error.value.keys[0] == key


@pytest.mark.parametrize(
    ("wrong", "key"),
    [
        ({"low_hz": 0.0}, "low_hz"),
        ({"low_hz": 40.0}, "low_hz"),
        ({"high_hz": float("inf")}, "low_hz"),
        ({"order": 0}, "order"),
    ],
)
def test_impossible_band_passes_are_refused(wrong, key):
    with pytest.raises(RecipeError) as error:
        BandPass(**wrong)
    assert error.value.keys[0] == key


def test_a_recipe_says_what_its_windows_are():
    assert WindowRecipe().shape == (12, 5000)
    assert WindowRecipe(leads=("V1",), sampling_hz=100, seconds=0.29).shape == (1, 29)
    assert (RECIPE.units, ECG_FM.units) == ("mV", "standard deviations")


@pytest.mark.parametrize("recipe", [WindowRecipe(), ECG_FM, WindowRecipe(("aVF", "V1"), sampling_hz=100, seconds=30.0)])
def test_the_example_is_always_the_same(recipe):
    example = example_window(recipe)
    assert example.shape == (1, *recipe.shape)
    assert example.dtype == np.float32
    assert np.array_equal(example, example_window(recipe))
    assert (np.ptp(example[:, :, -recipe.samples // 2 :], axis=-1) > 0.05).all()


# A site

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
