"""The filters that a recipe of waveform windows can name."""

from dataclasses import dataclass
from functools import cache
from math import isfinite
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.signals.filters import butterworth, mirrored


@dataclass(frozen=True)
class BandPass:
    """A zero-phase Butterworth band-pass at the recorded rate, its ends mirrored; `signals.filters` gives the reasons.

    order: of the design at each cut-off; both passes together have twice the order. Where the recorded rate is too low
    for the upper cut-off there is nothing to remove above it, so the lower one is applied alone.
    """

    kind: Literal["band_pass"] = "band_pass"
    low_hz: float = 0.5
    high_hz: float = 40.0
    order: int = 2

    def __post_init__(self) -> None:
        _check_band(self.low_hz, self.high_hz, self.order)

    def check(self, sampling_hz: int) -> None:
        """RecipeError if nothing of the band can be in windows of this rate."""
        if self.low_hz >= sampling_hz / 2:
            raise RecipeError(
                f"a band-pass from {self.low_hz} Hz on leaves nothing that {sampling_hz} Hz can hold",
                "filter.low_hz",
                "filter",
                "sampling_hz",
            )

    def as_recorded(self, x_mv: NDArray, sampling_hz: int) -> NDArray[np.float32]:
        """What of the band was recorded, along the last axis: all zeros if it lies above half of `sampling_hz`."""
        from ecg_pipeline.signals.kernels import filter_rows

        if self.low_hz >= sampling_hz / 2:
            return np.zeros(x_mv.shape, np.float32)
        rows = np.ascontiguousarray(x_mv, np.float32).reshape(-1, x_mv.shape[-1])
        sections, steady_state = butterworth((self.low_hz, self.high_hz), self.order, sampling_hz)
        out = np.empty(rows.shape, np.float32)
        filter_rows(rows, sections, steady_state, mirrored(rows.shape[1], self.low_hz, sampling_hz), 1, out)
        return out.reshape(x_mv.shape)

    def resampled(self, x_mv: NDArray, sampling_hz: int) -> NDArray:
        """Nothing is done after resampling."""
        return x_mv


@dataclass(frozen=True)
class NotchBandPassMedian:
    """The preprocessing of ECGFounder's fine-tuning (dataset.py), at the rate of the windows: a notch, a Butterworth
    band-pass, and the baseline, a running median, subtracted.

    Notch and band-pass are zero-phase (forward and backward), with SciPy's default ends. They run as second-order
    sections, which come closer to the design than the released code's single fraction (by up to 3e-7 mV).
    notch_hz: of the mains. notch_q: its quality factor. order: of the band-pass at each cut-off; both passes together
    have twice the order. median_s: the median's window, made odd; beyond the ends of the recording lie zeros.
    """

    kind: Literal["notch_band_pass_median"] = "notch_band_pass_median"
    notch_hz: float = 50.0
    notch_q: float = 30.0
    low_hz: float = 0.67
    high_hz: float = 40.0
    order: int = 4
    median_s: float = 0.4

    def __post_init__(self) -> None:
        _check_band(self.low_hz, self.high_hz, self.order)
        for key in ("notch_hz", "notch_q", "median_s"):
            if not isfinite(getattr(self, key)) or getattr(self, key) <= 0:
                raise RecipeError(f"{key} must be above 0, not {getattr(self, key)}", key)

    def check(self, sampling_hz: int) -> None:
        """RecipeError if windows of this rate cannot be filtered so."""
        for key in ("high_hz", "notch_hz"):
            if getattr(self, key) >= sampling_hz / 2:
                raise RecipeError(
                    f"{getattr(self, key)} Hz must lie below half of {sampling_hz} Hz",
                    f"filter.{key}",
                    "filter",
                    "sampling_hz",
                )

    def as_recorded(self, x_mv: NDArray, sampling_hz: int) -> NDArray:
        """Nothing is done before resampling."""
        return x_mv

    def resampled(self, x_mv: NDArray, sampling_hz: int) -> NDArray[np.float64]:
        """The filtered signals, along the last axis: (..., T) at `sampling_hz` -> (..., T) float64."""
        from ecg_pipeline.signals.kernels import filter_both_ways, subtract_median

        rows = np.array(x_mv, np.float64, order="C").reshape(-1, x_mv.shape[-1])
        band_pass = butterworth((self.low_hz, self.high_hz), self.order, sampling_hz)
        for sections, steady_state in [_notch(self.notch_hz, self.notch_q, sampling_hz), band_pass]:
            # SciPy's: three times the coefficients of the fraction.
            padding = min(3 * (2 * len(sections) + 1), rows.shape[1] - 1)
            filter_both_ways(rows, sections, steady_state, padding)
        subtract_median(rows, (int(self.median_s * sampling_hz) + 1) | 1)
        return rows.reshape(x_mv.shape)


@cache
def _notch(notch_hz: float, quality: float, sampling_hz: int) -> tuple[NDArray, NDArray]:
    """The second-order section (1, 6) of a notch, and its steady state (1, 2)."""
    from scipy.signal import iirnotch, sosfilt_zi

    sections = np.concatenate(iirnotch(notch_hz, quality, fs=sampling_hz))[None]
    return sections, sosfilt_zi(sections)


def _check_band(low_hz: float, high_hz: float, order: int) -> None:
    if not 0 < low_hz < high_hz or not isfinite(high_hz):
        raise RecipeError(
            f"band-pass {low_hz}-{high_hz} Hz must begin above 0 Hz and end above its beginning", "low_hz", "high_hz"
        )
    if order < 1:
        raise RecipeError(f"filter order {order} must be at least 1", "order")
