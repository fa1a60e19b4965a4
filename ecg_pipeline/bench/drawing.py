"""Filtering, rendering, shards and batches, compared with the libraries that one would use otherwise."""

import io
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import median_filter
from scipy.signal import butter, sosfiltfilt

from ecg_pipeline.bench.compare import Row, compare, within
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.signals.filters import FilterRecipe, clean
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate
from ecg_pipeline.training.batches import Batches

ECGS, SHARD = 256, 1024
CLOCK = time.process_time


def filter_leads() -> list[Row]:
    """Band-pass and median of eight leads of 2,500 samples, compared with SciPy, one ECG at a time."""
    recipe, x_mv = FilterRecipe(), _waveforms(ECGS)
    sections = butter(recipe.order, (recipe.low_hz, recipe.high_hz), "bandpass", fs=recipe.sampling_hz, output="sos")

    def theirs() -> None:
        for leads in x_mv:
            passed = sosfiltfilt(sections, leads, axis=-1, padtype="even", padlen=1000)
            median_filter(passed, size=(1, recipe.median_samples), mode="reflect").astype(np.float32)

    against = "scipy.signal.sosfiltfilt and scipy.ndimage.median_filter"
    unit = _unit("times as fast")
    return [
        compare(
            "filter",
            against=against,
            ours=lambda: clean(x_mv, recipe),
            theirs=theirs,
            target=8,
            unit=unit,
            clock=CLOCK,
        )
    ]


def render_matplotlib() -> list[Row]:
    """Rendering at 224 x 224, compared with one matplotlib figure whose lines get new data for each ECG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    recipe, x_mv = SheetRecipe(), clean(_waveforms(ECGS), FilterRecipe())
    few = 16
    figure = Figure(figsize=(recipe.width_px / 100, recipe.height_px / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, x_mv.shape[-1]), ylim=(recipe.height_px, 0))
    axes.axis("off")
    time_samples = np.arange(x_mv.shape[-1])
    width_pt = recipe.stroke_px * 72 / 100
    lines = [axes.plot(time_samples, time_samples, "k", linewidth=width_pt)[0] for _ in recipe.cells()]

    def theirs() -> None:
        for leads in x_mv[:few]:
            for line, cell, trace in zip(lines, recipe.cells(), leads, strict=True):
                line.set_ydata(cell.baseline_px - trace * recipe.px_per_mv)
            canvas.draw()
            np.asarray(canvas.buffer_rgba())[..., 0].copy()

    against = f"matplotlib, one figure reused ({few} images, extrapolated to {ECGS})"
    unit = _unit("times as fast")
    return [
        compare(
            "render",
            against=against,
            ours=lambda: render_many(x_mv, recipe),
            theirs=theirs,
            target=80,
            unit=unit,
            work=ECGS / few,
            clock=CLOCK,
        )
    ]


def render_opencv() -> list[Row]:
    """Rendering at 224 x 224, compared with OpenCV's anti-aliased polylines."""
    import cv2

    cv2.setNumThreads(1)
    recipe, x_mv = SheetRecipe(), clean(_waveforms(ECGS), FilterRecipe())
    bits = 4
    across = np.arange(x_mv.shape[-1]) * (recipe.width_px / x_mv.shape[-1] * 2**bits)

    def theirs() -> None:
        for leads in x_mv:
            image = np.full((recipe.height_px, recipe.width_px), 255, np.uint8)
            baselines = np.array([cell.baseline_px for cell in recipe.cells()])[:, None]
            heights = (baselines - leads * recipe.px_per_mv) * 2**bits
            points = np.stack([np.broadcast_to(across, heights.shape), heights], axis=-1).astype(np.int32)
            cv2.polylines(image, list(points), False, 0, 1, cv2.LINE_AA, bits)

    against = "OpenCV's anti-aliased polylines, all leads in one call"
    unit = _unit("times as fast")
    return [
        compare(
            "render-opencv",
            against=against,
            ours=lambda: render_many(x_mv, recipe),
            theirs=theirs,
            target=15,
            unit=unit,
            clock=CLOCK,
        )
    ]


def shards() -> list[Row]:
    """Reading images from a shard, compared with PNG files and Pillow; and the size of the shard on disk."""
    disable_malloc_trim()
    images = render_many(clean(_waveforms(SHARD), FilterRecipe()), SheetRecipe())
    with TemporaryDirectory() as folder:
        shards = _stored(images, Path(folder, "shards"))
        for number, image in enumerate(images):
            Image.fromarray(image).save(Path(folder, f"{number}.png"))

        def theirs() -> NDArray[np.uint8]:
            files = (Path(folder, f"{number}.png").read_bytes() for number in range(SHARD))
            return np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in files])

        read = compare(
            "shards",
            against="PNG files read by Pillow",
            ours=lambda: shards.read(0),
            theirs=theirs,
            target=10,
            unit=_unit("times as fast", SHARD),
            clock=CLOCK,
        )
        size = sum(path.stat().st_size for path in Path(folder, "shards").rglob("*") if path.is_file())
    share, unit = size / images.nbytes, "of the size, at most"
    return [read, within("shards", against="the bytes of the images", measured=[share], limit=0.5, unit=unit)]


def batches() -> list[Row]:
    """One epoch of shuffled batches from shards, compared with one copy of the decoded arrays."""
    disable_malloc_trim()
    images = render_many(clean(_waveforms(SHARD), FilterRecipe()), SheetRecipe())
    with TemporaryDirectory() as folder:
        shards = _stored(images, Path(folder))
        table = shards.index().select("ecg_id", site=pl.lit("bench"))
        into = np.empty_like(images)

        def ours() -> None:
            # What was decoded stays in memory, so each epoch here is a first one.
            for _ in Batches(arrays={"images": {"bench": shards}}, table=table).epoch(0, batch=32, seed=0):
                pass

        unit = _unit("of the floor's speed", SHARD)
        return [
            compare(
                "batches",
                against="a copy of the decoded bytes",
                ours=ours,
                theirs=lambda: np.copyto(into, images),
                target=0.5,
                unit=unit,
                clock=CLOCK,
            )
        ]


def _unit(words: str, ecgs: int = ECGS) -> str:
    return f"{words}, {ecgs:,} ECGs, one process, processor time"


def _stored(images: NDArray[np.uint8], folder: Path) -> ArrayShards:
    write_shard(folder, 0, images)
    rows = pl.int_range(len(images), dtype=pl.Int32, eager=True)
    write_index(folder, pl.DataFrame({"ecg_id": rows.cast(pl.String), "shard": rows * 0, "row": rows}))
    return ArrayShards(folder)


def _waveforms(count: int) -> NDArray[np.float32]:
    """(count, 8, 2500) millivolts of synthetic hearts."""
    rng = np.random.default_rng(0)
    hearts = [
        simulate(
            sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng), seconds=5, sampling_hz=500, rng=rng
        )[0]
        for _ in range(32)
    ]
    x_mv = np.resize(np.stack(hearts), (count, 8, 2500)).astype(np.float32)
    return x_mv + rng.normal(0, 0.01, x_mv.shape).astype(np.float32)
