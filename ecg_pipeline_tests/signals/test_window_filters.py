"""The filters of windows: those of SciPy, at the rate at which each belongs."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import butter, filtfilt, iirnotch, medfilt, sosfiltfilt

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.signals.kernels import subtract_median
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.signals.windows import cut_windows
from ecg_pipeline_tests.signals.small import LAW, RECIPE, SEEDS, noise


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
