"""Windows of waveforms, the view that waveform networks read: leads, rate, length and scale as a recipe says.

The steps have one order: band-pass at the recorded rate, resampling, filter at the new rate, standardisation over the
whole recording, crop, padding.
"""

from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS, Progress, RecipeError, no_progress
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals.filters import resample
from ecg_pipeline.signals.recordings import shard_ecgs, waveform_digest
from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ArrayShards, Shard, build_shards, scan_tables, write_index

REVISION = 2
"""Bumped by hand when this module's results change."""

CONSTANT_MV = 1e-6
"""A lead that varies less is constant: no cart resolves a nanovolt, and rounding of a derived lead leaves less."""

ADDED = 1e-8
"""ECGFounder's addition to the deviation of a recording."""

TOGETHER = 8
"""Recordings prepared at once: their 96 leads fill the lanes of the filters."""

INDEX_SCHEMA = {
    "ecg_id": pl.String,
    "shard": pl.Int32,
    "row": pl.Int32,
    "start_s": pl.Float32,
    "recorded_s": pl.Float32,
}
LEFT_OUT_SCHEMA = {"ecg_id": pl.String, "recorded_s": pl.Float32}


@dataclass(frozen=True)
class WindowRecipe:
    """How recordings become windows.

    leads: of a window, in this order; limb leads are derived where they were not recorded.
    resampling: to `sampling_hz`; "polyphase" filters against aliasing, "linear" does not and is that of ECG-FM.
    seconds: length of a window. crop: the "first" window, at most so many from the start (2 or more), or "all" that fit
    one after another.
    filter: `BandPass` acts at the recorded rate, before resampling; `NotchBandPassMedian`, ECGFounder's, after it.
    standardise: over the whole recording at `sampling_hz`, of which the windows may be a part, by the population's mean
    and standard deviation. "lead": each lead by its own, and a constant lead becomes 0 (ECG-FM). "recording": all leads
    by those of all their samples, 1e-8 added to the deviation; a constant lead stays constant (ECGFounder's, whose
    recordings are as long as a window).
    short: a recording shorter than a window is left out, or padded at its end with zeros after standardisation.
    """

    leads: tuple[str, ...] = LEADS
    sampling_hz: int = 500
    resampling: Literal["polyphase", "linear"] = "polyphase"
    seconds: float = 10.0
    crop: Literal["first", "all"] | int = "first"
    filter: BandPass | NotchBandPassMedian | None = None
    standardise: Literal["none", "lead", "recording"] = "none"
    short: Literal["leave_out", "pad"] = "leave_out"

    def __post_init__(self) -> None:
        if not self.leads:
            raise RecipeError("a window has at least one lead", "leads")
        if unknown := [lead for lead in self.leads if lead not in LEADS]:
            raise RecipeError(f"{', '.join(unknown)} is none of the leads {', '.join(LEADS)}", "leads")
        if len(set(self.leads)) < len(self.leads):
            raise RecipeError(f"a lead occurs twice among {', '.join(self.leads)}", "leads")
        if self.sampling_hz < 1:
            raise RecipeError(f"a sampling rate of {self.sampling_hz} Hz must be at least 1 Hz", "sampling_hz")
        if not isfinite(self.seconds) or self.samples < 2 or abs(self.seconds * self.sampling_hz - self.samples) > 1e-6:
            raise RecipeError(
                f"{self.seconds} s at {self.sampling_hz} Hz must be a whole number of samples, at least 2",
                "seconds",
                "sampling_hz",
            )
        if isinstance(self.crop, int) and self.crop < 2:
            raise RecipeError(f"a crop to {self.crop} windows: write `first`, `all`, or a number of at least 2", "crop")
        if self.filter is not None:
            self.filter.check(self.sampling_hz)

    @property
    def samples(self) -> int:
        """Length of a window in samples."""
        return round(self.seconds * self.sampling_hz)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a window: (leads, samples)."""
        return len(self.leads), self.samples

    @property
    def units(self) -> str:
        """Unit of a window's values."""
        return "mV" if self.standardise == "none" else "standard deviations"


@dataclass(frozen=True)
class WaveformWindows(ArrayShards):
    """A site's windows: (n, L, T) float32 per shard, in the order of the ECGs, then of time.

    The index has two more columns: start_s (f32), where in the recording a window begins, and recorded_s (f32), how
    much of it was recorded: less than its length if it was padded. Attributes of the arrays: leads, sampling_hz, units.
    Files beside those of `ArrayShards`: `left_out.parquet`.
    """

    def left_out(self) -> pl.DataFrame:
        """The ECGs that are shorter than a window: ecg_id, and recorded_s (f32), their length."""
        return pl.read_parquet(self.folder / "left_out.parquet")


def cut_windows(x_mv: NDArray, sampling_hz: int, recipe: WindowRecipe) -> NDArray[np.float32]:
    """Cut recordings of one length: (N, L, T) millivolts at `sampling_hz` -> (N, windows, L, samples) float32."""
    windows = _window_count(x_mv.shape[-1], sampling_hz, recipe)
    cut = np.zeros((len(x_mv), windows, x_mv.shape[1], recipe.samples), np.float32)
    if not windows:
        return cut
    # A few recordings at a time: a block of long ones in float64 would fill the memory.
    for first in range(0, len(x_mv), TOGETHER):
        recorded = x_mv[first : first + TOGETHER]
        x = prepare(recorded, sampling_hz, recipe)
        for window in range(windows):
            part = x[..., window * recipe.samples : (window + 1) * recipe.samples]
            cut[first : first + TOGETHER, window, :, : part.shape[-1]] = part
    return cut


def prepare(x_mv: NDArray, sampling_hz: int, recipe: WindowRecipe) -> NDArray:
    """Filter, resample and standardise: (N, L, T) millivolts at `sampling_hz` -> (N, L, T) at the recipe's rate."""
    x = x_mv if recipe.filter is None else recipe.filter.as_recorded(x_mv, sampling_hz)
    x = _resample(x, sampling_hz, recipe)
    if recipe.filter is not None:
        x = recipe.filter.resampled(x, recipe.sampling_hz)
    return x if recipe.standardise == "none" else _standardise(x, x_mv, recipe)


def _resampled(samples: int, sampling_hz: int, recipe: WindowRecipe) -> int:
    """Length of a recording in whole samples at the recipe's rate."""
    return samples * recipe.sampling_hz // sampling_hz


def _window_count(samples: int, sampling_hz: int, recipe: WindowRecipe) -> int:
    """Number of windows of a recording of `samples` at `sampling_hz`."""
    whole = _resampled(samples, sampling_hz, recipe) // recipe.samples
    if whole == 0:
        return int(recipe.short == "pad")
    match recipe.crop:
        case "first":
            return 1
        case "all":
            return whole
        case most:
            return min(whole, most)


def _resample(x: NDArray, sampling_hz: int, recipe: WindowRecipe) -> NDArray:
    """(..., T) at `sampling_hz` -> (..., T) at the recipe's rate; an incomplete last sample is dropped."""
    if sampling_hz == recipe.sampling_hz:
        return x
    samples = _resampled(x.shape[-1], sampling_hz, recipe)
    if recipe.resampling == "linear":
        # The grid of ECG-FM's preprocessing, which stretches a recording by less than a sample.
        recorded, wanted = np.linspace(0, samples - 1, x.shape[-1]), np.arange(samples)
        rows = [np.interp(wanted, recorded, row) for row in x.reshape(-1, x.shape[-1])]
        return np.stack(rows).reshape(*x.shape[:-1], samples)
    return resample(x, sampling_hz, recipe.sampling_hz)[..., :samples]


def _standardise(x: NDArray, recorded_mv: NDArray, recipe: WindowRecipe) -> NDArray[np.float64]:
    """(N, L, T) -> (N, L, T) in standard deviations. recorded_mv: before filter and resampling."""
    from ecg_pipeline.signals.kernels import standardise_rows

    by_lead, out = recipe.standardise == "lead", np.empty(x.shape)
    rows = (len(x) * x.shape[1], x.shape[2]) if by_lead else (len(x), x.shape[1] * x.shape[2])
    least, added = (CONSTANT_MV, 0.0) if by_lead else (0.0, ADDED)
    standardise_rows(np.ascontiguousarray(x).reshape(rows), least, added, out.reshape(rows))
    # Recorded samples are asked, too, because resampling leaves a ripple on a constant lead.
    constant = np.ptp(recorded_mv, axis=-1) < CONSTANT_MV
    out[constant if by_lead else constant.all(axis=1)] = 0
    return out


def cut_site(
    store: WaveformStore,
    recipe: WindowRecipe,
    out: Path,
    *,
    workers: int = 1,
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> WaveformWindows:
    """Cut every ECG of a site, shard by shard, into `out`.

    Shards that exist for the same waveforms are not cut again; they may come from `previous`, an earlier output of the
    same recipe.
    """
    work, input_digest = partial(_cut_shard, store, recipe), partial(waveform_digest, store)
    build_shards(
        store, out=out, work=work, input_digest=input_digest, previous=previous, workers=workers, progress=progress
    )
    shards = store.shards()
    left_out = scan_tables(out, "left_out", shards=shards, schema=LEFT_OUT_SCHEMA)
    write_parquet(out / "left_out.parquet", left_out)
    write_index(out, scan_tables(out, "windows", shards=shards, schema=INDEX_SCHEMA), ["start_s", "recorded_s"])
    return WaveformWindows(out)


def _cut_shard(store: WaveformStore, recipe: WindowRecipe, shard: int) -> Shard:
    """The windows of one shard, where they were cut, and which recordings are too short."""
    runs = shard_ecgs(store, shard).partition_by("array", maintain_order=True)
    counts = [_window_count(run["samples"][0], run["sampling_hz"][0], recipe) for run in runs]
    windows = np.empty((sum(len(run) * count for run, count in zip(runs, counts, strict=True)), *recipe.shape), "f4")
    index, left_out, done = [pl.DataFrame(schema=INDEX_SCHEMA).drop("row")], [pl.DataFrame(schema=LEFT_OUT_SCHEMA)], 0
    for run, count in zip(runs, counts, strict=True):
        if count == 0:
            recorded_s = (pl.col("samples") / pl.col("sampling_hz")).cast(pl.Float32)
            left_out.append(run.select("ecg_id", recorded_s.alias("recorded_s")))
            continue
        sampling_hz = run["sampling_hz"][0]
        places = _places(run, count, recipe)
        index.append(run.select("ecg_id", "shard").join(places, how="cross", maintain_order="left_right"))
        for _, x_mv in store.millivolts(run, recipe.leads, _seconds_read(sampling_hz, recipe)):
            cut = cut_windows(x_mv, sampling_hz, recipe).reshape(-1, *recipe.shape)
            windows[done : done + len(cut)] = cut
            done += len(cut)
    rows = pl.concat(index).with_columns(pl.int_range(pl.len(), dtype=pl.Int32).alias("row")).select(*INDEX_SCHEMA)
    attributes = {"leads": list(recipe.leads), "sampling_hz": recipe.sampling_hz, "units": recipe.units}
    return Shard(windows, attributes, {"windows": rows, "left_out": pl.concat(left_out)})


def _places(run: pl.DataFrame, count: int, recipe: WindowRecipe) -> pl.DataFrame:
    """start_s and recorded_s of the windows of each recording of a run, which are of one length."""
    starts = np.arange(count) * recipe.samples
    recorded = np.minimum(recipe.samples, _resampled(run["samples"][0], run["sampling_hz"][0], recipe) - starts)
    columns = {"start_s": starts / recipe.sampling_hz, "recorded_s": recorded / recipe.sampling_hz}
    return pl.DataFrame(columns, {"start_s": pl.Float32, "recorded_s": pl.Float32})


def _seconds_read(sampling_hz: int, recipe: WindowRecipe) -> float | None:
    """How much of a recording its windows depend on; None is all of it."""
    of_all = recipe.crop != "first" or recipe.standardise != "none" or recipe.filter is not None
    return None if of_all or sampling_hz != recipe.sampling_hz else recipe.seconds
