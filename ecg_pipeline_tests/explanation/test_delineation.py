"""Windows stand where the synthetic heart put its waves."""

from dataclasses import replace

import numpy as np
import pytest

from ecg_pipeline.explanation.delineation import WINDOWS, column_cover, wave_windows
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.signals.filters import FilterRecipe, clean
from ecg_pipeline.synthetic.heart import measure, sample_heart, sample_person, simulate

HZ = 500


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


def test_columns_cover_the_time_that_a_window_takes():
    window = np.zeros(2500, bool)
    window[1000:1250] = True
    for recipe in (SheetRecipe(), SheetRecipe(rows=4, columns=2)):
        cover = column_cover(window, recipe)
        assert cover.shape == (224,)
        assert cover.mean() == pytest.approx(0.1)
        width_px = recipe.cell_px[1]
        assert np.flatnonzero(cover[:width_px])[0] == int(0.4 * width_px)
