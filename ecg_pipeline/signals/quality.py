"""Quality of a recording: flat leads, amplitude, noise and baseline wander, measured before any filter."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

FLAT_MV = 0.02
"""A lead with a peak-to-peak amplitude below this (four counts of a GE cart) is flat: an electrode is off."""

NOISE_ABOVE_HZ = 40.0
"""Cut-off of the noise measure: muscle and mains noise lie above, and the paper's band-pass ends here."""

SCHEMA = {"flat_leads": pl.Int32, "peak_to_peak_mv": pl.Float32, "noise_mv": pl.Float32, "wander_mv": pl.Float32}


def measure(x_mv: NDArray, sampling_hz: int) -> pl.DataFrame:
    """Four measures of each ECG; those in millivolts are of its worst lead.

    x_mv: (N, L, T) unfiltered millivolts. Returns N rows with the columns
    flat_leads (i32): number of flat leads (`FLAT_MV`);
    peak_to_peak_mv (f32): greatest peak-to-peak amplitude;
    noise_mv (f32): rms above `NOISE_ABOVE_HZ`, as median over windows of 100 ms, which leaves QRS complexes out;
    wander_mv (f32): baseline wander, the range of the medians of one-second windows.
    """
    from scipy.signal import butter

    from ecg_pipeline.signals.kernels import run_sections

    excursion = np.ptp(x_mv, axis=-1)
    high_pass = np.asarray(butter(2, NOISE_ABOVE_HZ, "highpass", fs=sampling_hz, output="sos"))
    noise = np.empty(x_mv.shape)
    run_sections(_rows(x_mv - x_mv[..., :1]), high_pass, _rows(noise))
    noise_rms = np.sqrt(np.square(_windows(noise, sampling_hz // 10)).mean(axis=-1))
    level = np.median(_windows(x_mv, sampling_hz), axis=-1)
    return pl.DataFrame(
        {
            "flat_leads": (excursion < FLAT_MV).sum(axis=-1),
            "peak_to_peak_mv": excursion.max(axis=-1),
            "noise_mv": np.median(noise_rms, axis=-1).max(axis=-1),
            "wander_mv": np.ptp(level, axis=-1).max(axis=-1),
        },
        SCHEMA,
    )


def _windows(x: NDArray, samples: int) -> NDArray:
    """Cut into windows: (..., T) -> (..., windows, samples). An incomplete last window is dropped; a signal that is
    shorter than a window is one window."""
    samples = min(samples, x.shape[-1])
    whole = x.shape[-1] // samples * samples
    return x[..., :whole].reshape(*x.shape[:-1], -1, samples)


def _rows(x: NDArray) -> NDArray:
    return x.reshape(-1, x.shape[-1])
