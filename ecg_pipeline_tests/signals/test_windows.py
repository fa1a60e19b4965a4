"""Windows of waveforms: laws of one block of recordings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.leads import derive
from ecg_pipeline.signals.example import example_window
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe, cut_windows
from ecg_pipeline_tests.signals.small import ECG_FM, FILTERS, LAW, RATES, RECIPE, SEEDS, noise


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
