"""Windows stand where the synthetic heart put its waves."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_pipeline.explanation.delineation import WINDOWS, recording_windows, wave_windows
from ecg_pipeline.signals.filters import FilterRecipe, clean, filter_site
from ecg_pipeline.synthetic.heart import measure, sample_heart, sample_person, simulate
from ecg_pipeline_tests.explanation.stores import HZ, beats, store_of


def planted(seed):
    """A recording with noise, its R times (s), and the intervals that the heart was given."""
    rng = np.random.default_rng(seed)
    heart = replace(sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng), premature_share=0.0)
    x_mv, times, _ = simulate(heart, seconds=5, sampling_hz=HZ, rng=rng)
    return clean(x_mv + rng.normal(0, 0.01, x_mv.shape), FilterRecipe()), times, measure(heart)


@pytest.mark.parametrize("seed", [2, 3, 5])
def test_windows_stand_where_the_waves_are(seed):
    x_mv, times, truth = planted(seed)
    windows = wave_windows(x_mv, HZ)
    assert windows is not None
    time = np.arange(x_mv.shape[1]) / HZ
    inside = [t for t in times if 0.3 < t < 4.4]
    for name, begin_ms, end_ms in (
        ("qrs", truth.q_onset_ms, truth.q_offset_ms),
        ("t", 0.6 * truth.t_offset_ms, truth.t_offset_ms),
    ):
        expected = np.zeros(len(time), bool)
        for t in inside:
            expected |= (time >= t + begin_ms / 1000) & (time < t + end_ms / 1000)
        found = windows[name] & (np.abs(time[:, None] - inside).min(1) < 0.45)
        assert (found & expected).sum() > 0.7 * expected.sum()
        assert (found & ~expected).sum() < 0.5 * expected.sum()
    assert all(windows["qrs"][round(t * HZ)] for t in inside)


def test_a_sample_lies_in_one_window():
    windows = wave_windows(planted(3)[0], HZ)
    assert windows is not None
    assert sum(windows[name].astype(int) for name in WINDOWS).max() == 1
    assert all(windows[name].any() for name in WINDOWS)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_what_has_no_beats_has_no_windows(level):
    assert wave_windows(np.full((8, 2500), level, np.float32), HZ) is None


def test_the_waves_of_a_recording_are_those_of_its_filtered_waveform(tmp_path):
    store, filters = store_of(tmp_path / "store", {"a": beats(10, seed=4), "b": beats(5, seed=5)}), FilterRecipe()
    filtered = filter_site(store, filters, tmp_path / "filtered")
    for ecg_id in ("a", "b"):
        found = recording_windows(store, ecg_id, filters=filters)
        expected = wave_windows(filtered.read_ecgs([ecg_id])[0], filters.sampling_hz)
        assert found is not None
        assert expected is not None
        assert all(np.array_equal(found[name], expected[name]) for name in WINDOWS)


def test_a_longer_time_has_more_waves_and_a_recording_that_ends_has_none_after_it(tmp_path):
    store = store_of(tmp_path / "store", {"long": beats(10, seed=4), "short": beats(5, seed=5)})
    filters = FilterRecipe(samples=4000)
    found = {ecg_id: recording_windows(store, ecg_id, filters=filters) for ecg_id in ("long", "short")}
    assert all(window.shape == (4000,) for windows in found.values() for window in windows.values())
    assert found["long"]["qrs"][2500:].any()
    assert found["short"]["qrs"][:2500].any()
    assert not any(window[2500:].any() for window in found["short"].values())


def test_what_is_shorter_than_four_beats_has_no_windows(tmp_path):
    store = store_of(tmp_path / "store", {"a": beats(5, seed=4), "b": np.zeros((8, 2))})
    assert recording_windows(store, "a", filters=FilterRecipe(samples=600)) is None
    assert recording_windows(store, "b", filters=FilterRecipe()) is None
    with pytest.raises(KeyError, match="c is not in"):
        recording_windows(store, "c", filters=FilterRecipe())
