"""Delineation of QRS complexes, ST segments and T waves by NeuroKit2's wavelet delineator (Martinez et al. 2004).

Leads are delineated one by one; as on a cart, a wave then has one onset and one offset for all leads: the median over
the leads, so that a lead without a clear T wave has little influence; for the QRS onset the upper quartile, because in
some leads the delineator includes the P wave. R waves are detected in the root mean square of the leads, which has a
peak at every beat whatever the axis.

Median errors on twelve synthetic hearts, a third with infarction and a third with low ejection fraction: QRS onset
-7 ms, QRS offset 3 ms, end of T -12 ms (half of them within 15, 10 and 2 ms of that). The quartile was chosen on these
hearts, so expect larger errors elsewhere. A pixel column is 22 ms. Premature and very wide beats are often missed; they
then belong to no window.
"""

import warnings
from dataclasses import replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals.filters import FilterRecipe, clean, crop

WINDOWS = ("qrs", "st", "t")
MIN_BEATS = 4
"""Least number of beats: NeuroKit2 interpolates the heart rate, which needs four."""

LEAST_SECONDS = 1.0
"""Shortest time that is delineated: at 240 beats a minute it has `MIN_BEATS`."""

QRS_ONSET = "ECG_R_Onsets"

_BORDERS = {
    "qrs": (QRS_ONSET, "ECG_R_Offsets"),
    "st": ("ECG_R_Offsets", "ECG_T_Onsets"),
    "t": ("ECG_T_Onsets", "ECG_T_Offsets"),
}
"""Onset and offset of each window, by NeuroKit2's names: it calls the QRS complex the R wave."""


def wave_windows(x_mv: NDArray, sampling_hz: int) -> dict[str, NDArray[np.bool_]] | None:
    """Delineate one ECG: (8, T) millivolts -> for each of `WINDOWS` a mask (T,) of the samples in it.

    A beat whose onset or offset is found in no lead has no such window. None if fewer than `MIN_BEATS` beats are
    found, or no beat is delineated.
    """
    import neurokit2

    with warnings.catch_warnings():
        # Means over no beats, which are NaN and handled below, and NeuroKit2's use of deprecated pandas functions.
        for kind in (RuntimeWarning, DeprecationWarning):
            warnings.simplefilter("ignore", kind)
        _, found = neurokit2.ecg_peaks(np.sqrt((x_mv.astype(np.float64) ** 2).mean(0)), sampling_rate=sampling_hz)
        beats = np.asarray(found["ECG_R_Peaks"])
        if len(beats) < MIN_BEATS:
            return None
        leads = [marks for lead in x_mv if (marks := _delineate(lead, beats, sampling_hz))]
        if not leads:
            return None
        borders = {
            name: np.nanquantile([lead[name] for lead in leads], 0.75 if name == QRS_ONSET else 0.5, axis=0)
            for name in leads[0]
        }
    windows = {name: np.zeros(x_mv.shape[1], bool) for name in WINDOWS}
    for name, (begin, end) in _BORDERS.items():
        for first, last in zip(borders[begin], borders[end], strict=True):
            if first < last:
                windows[name][round(first) : round(last)] = True
    # At high rates the T wave overlaps the next complex: each sample is in one window only.
    windows["t"] &= ~windows["qrs"]
    windows["st"] &= ~(windows["qrs"] | windows["t"])
    return windows if windows["qrs"].any() else None


def recording_windows(
    store: WaveformStore, ecg_id: str, *, filters: FilterRecipe
) -> dict[str, NDArray[np.bool_]] | None:
    """Delineate the first `filters.samples` of a recording after filtering: as `wave_windows`, masks (samples,).

    A shorter recording is delineated as far as it goes. An unknown ECG is a KeyError.
    """
    rows = store.scan().filter(pl.col("ecg_id") == ecg_id).collect()
    if rows.is_empty():
        raise KeyError(f"{ecg_id} is not in {store.folder}")
    sampling_hz, recorded = rows["sampling_hz"][0], rows["samples"][0]
    samples = min(filters.samples, recorded * filters.sampling_hz // sampling_hz)
    if samples < LEAST_SECONDS * filters.sampling_hz:
        return None
    _, x_mv = next(store.millivolts(rows, INDEPENDENT_LEADS, filters.seconds))
    recipe = replace(filters, samples=samples)
    found = wave_windows(clean(crop(x_mv[0], sampling_hz, recipe), recipe), filters.sampling_hz)
    missing = filters.samples - samples
    return None if found is None else {name: np.pad(window, (0, missing)) for name, window in found.items()}


def _delineate(lead: NDArray, beats: NDArray, sampling_hz: int) -> dict[str, NDArray[np.float64]] | None:
    """Onsets and offsets (beats,) of one lead, NaN where not found; None if NeuroKit2 cannot delineate the lead."""
    import neurokit2

    names = {border for borders in _BORDERS.values() for border in borders}
    try:
        _, marks = neurokit2.ecg_delineate(lead.astype(np.float64), beats, sampling_rate=sampling_hz, method="dwt")
    except (ValueError, IndexError, ZeroDivisionError):
        return None
    return {name: np.asarray(marks[name], np.float64) for name in names}
