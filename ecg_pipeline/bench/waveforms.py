"""From the waveform store to windows and to batches of them, compared with one file a recording or segment."""

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.io import loadmat, savemat
from scipy.signal import butter, filtfilt, iirnotch, medfilt

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.ingest.store import WAVEFORMS, WaveformStore
from ecg_pipeline.leads import derive
from ecg_pipeline.signals.window_filters import NotchBandPassMedian
from ecg_pipeline.signals.windows import WaveformWindows, WindowRecipe, cut_site
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.storage.shards import ensure_group, shard_name, write_array
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate
from ecg_pipeline.training.batches import Batches

ECGS, HZ, SECONDS, MICROVOLTS = 256, 500, 10, 4.88
BATCH = 32
CLOCK = time.process_time

SEGMENTS = WindowRecipe(seconds=5.0, crop=2, standardise="lead")
FILTERED = WindowRecipe(filter=NotchBandPassMedian(), standardise="recording", short="pad")
UNFILTERED = WindowRecipe(standardise="recording", short="pad")


def windows() -> list[Row]:
    """Filtered windows from the store, read and written, compared with SciPy and a file a recording."""
    disable_malloc_trim()
    counts = _counts(ECGS)
    with TemporaryDirectory() as name:
        folder = Path(name)
        store, files = write_store(folder / "store", counts), write_recordings(folder / "files", counts)
        outs = (folder / f"out_{number}" for number in count())

        def theirs() -> None:
            out = next(outs)
            out.mkdir()
            for file in files:
                np.save(out / file.name, filtered(load(file)))

        row = compare(
            "windows",
            against="scipy.signal's filtfilt and medfilt, one recording at a time, from and to .npy files",
            ours=lambda: cut_site(store, FILTERED, next(outs)),
            theirs=theirs,
            target=5,
            unit=f"times as fast, {ECGS} ECGs of {SECONDS} s and eight leads, one process, processor time",
            clock=CLOCK,
        )
    return [row]


def batches() -> list[Row]:
    """An epoch of shuffled batches of segments from shards, compared with one .mat file a segment."""
    disable_malloc_trim()
    with TemporaryDirectory() as name:
        folder = Path(name)
        cut = cut_site(write_store(folder / "store", _counts(ECGS)), SEGMENTS, folder / "segments")
        files = write_segments(folder / "files", cut)

        def ours() -> None:
            # What was decoded stays in memory, so each epoch here is a first one.
            for _ in batches_of(cut).epoch(0, batch=BATCH, seed=0):
                pass

        def theirs() -> None:
            for _ in mat_batches(files, seed=0):
                pass

        against = "scipy.io.loadmat of a segment's file"
        unit = f"times as fast, {len(files)} segments of 12 x {SEGMENTS.samples}, one process, processor time"
        row = compare("batches-waveforms", against=against, ours=ours, theirs=theirs, target=10, unit=unit, clock=CLOCK)
    return [row]


def batches_of(cut: WaveformWindows) -> Batches:
    """All segments as a data set."""
    table = cut.index().select("ecg_id", site=pl.lit("bench")).unique(maintain_order=True)
    return Batches(arrays={"windows": {"bench": cut}}, table=table)


def mat_batches(files: list[Path], *, seed: int) -> Iterator[NDArray[np.float32]]:
    """The files' segments in random order, in batches (BATCH, 12, T)."""
    order = np.random.default_rng(seed).permutation(len(files))
    for first in range(0, len(files) - BATCH + 1, BATCH):
        yield np.stack([loadmat(files[number])["feats"] for number in order[first : first + BATCH]])


def write_segments(folder: Path, cut: WaveformWindows) -> list[Path]:
    """One .mat file a segment, as ECG-FM's preprocessing writes them."""
    folder.mkdir(parents=True)
    files = []
    for _, array in cut:
        for segment in array:
            files.append(folder / f"{len(files)}.mat")
            savemat(files[-1], {"feats": segment, "curr_sample_rate": HZ})
    return files


def write_store(folder: Path, counts: NDArray[np.int16]) -> WaveformStore:
    """A store of one shard of recordings (N, 8, T)."""
    ensure_group(folder / WAVEFORMS)
    ensure_group(folder / WAVEFORMS / shard_name(0))
    write_array(folder / WAVEFORMS / shard_name(0) / "all", counts)
    ecgs = pl.DataFrame({"row": np.arange(len(counts), dtype=np.int32)}).with_columns(
        ecg_id=pl.format("{}", pl.col("row").cast(pl.String).str.zfill(5)),
        shard=pl.lit(0, pl.Int32),
        array=pl.lit("all"),
        waveform_sha256=pl.col("row").cast(pl.String),
        microvolts_per_count=pl.lit([MICROVOLTS] * len(INDEPENDENT_LEADS)),
        leads=pl.lit(list(INDEPENDENT_LEADS)),
        sampling_hz=pl.lit(HZ, pl.Int32),
        samples=pl.lit(counts.shape[-1], pl.Int32),
    )
    write_parquet(folder / "ecgs.parquet", ecgs)
    return WaveformStore(folder)


def write_recordings(folder: Path, counts: NDArray[np.int16]) -> list[Path]:
    """One file a recording."""
    folder.mkdir(parents=True)
    files = [folder / f"{number:05d}.npy" for number in range(len(counts))]
    for file, recording in zip(files, counts, strict=True):
        np.save(file, recording)
    return files


def load(file: Path) -> NDArray[np.float64]:
    """Twelve leads of a recording in millivolts."""
    return derive(np.load(file) * (MICROVOLTS / 1000))


def segments(x_mv: NDArray) -> NDArray[np.float32]:
    """ECG-FM's: (12, T) -> (2, 12, 2500)."""
    deviation = x_mv.std(axis=-1, keepdims=True)
    x = np.where(deviation > 0, (x_mv - x_mv.mean(axis=-1, keepdims=True)) / np.where(deviation > 0, deviation, 1), 0)
    return np.stack([x[:, :2500], x[:, 2500:5000]]).astype(np.float32)


def filtered(x_mv: NDArray) -> NDArray[np.float32]:
    """ECGFounder's version A: (12, T) -> (1, 12, T)."""
    x = filtfilt(*iirnotch(50.0, 30.0, fs=HZ), x_mv, axis=-1)
    b, a = np.asarray(butter(4, (0.67, 40.0), "bandpass", fs=HZ))
    x = filtfilt(b, a, x, axis=-1)
    return unfiltered(np.stack([lead - medfilt(lead, 201) for lead in x]))


def unfiltered(x_mv: NDArray) -> NDArray[np.float32]:
    """ECGFounder's version B: (12, T) -> (1, 12, T)."""
    return ((x_mv - x_mv.mean()) / (x_mv.std() + 1e-8))[None].astype(np.float32)


VIEWS: tuple[tuple[str, WindowRecipe, Callable[[NDArray], NDArray]], ...] = (
    ("filtered windows", FILTERED, filtered),
    ("windows without a filter", UNFILTERED, unfiltered),
    ("standardised segments", SEGMENTS, segments),
)
"""The views: in words, as a recipe, and as one would compute them of one recording."""


def _counts(ecgs: int) -> NDArray[np.int16]:
    """(ecgs, 8, T) counts of synthetic hearts."""
    rng = np.random.default_rng(0)
    hearts = [
        simulate(
            sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng),
            seconds=SECONDS,
            sampling_hz=HZ,
            rng=rng,
        )[0]
        for _ in range(32)
    ]
    x_mv = np.resize(np.stack(hearts), (ecgs, len(INDEPENDENT_LEADS), SECONDS * HZ))
    return np.round((x_mv + rng.normal(0, 0.01, x_mv.shape)) / (MICROVOLTS / 1000)).astype(np.int16)
