"""From waveforms to sheets in shards and to batches, against the libraries that one would use otherwise."""

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
from ecg_pipeline.storage.shards import ArrayParts, PartsWriter
from ecg_pipeline.synthetic.heart import draw_heart, draw_person, record
from ecg_pipeline.training.batches import Batches

ECGS, PART = 256, 1024
CLOCK = time.process_time


def filter_leads() -> list[Row]:
    """Band-pass and median of eight leads of 2,500 samples, against SciPy a record at a time."""
    recipe, x_mv = FilterRecipe(), _waveforms(ECGS)
    sections = butter(recipe.order, (recipe.low_hz, recipe.high_hz), "bandpass", fs=recipe.sampling_hz, output="sos")

    def theirs() -> None:
        for leads in x_mv:
            passed = sosfiltfilt(sections, leads, axis=-1, padtype="even", padlen=1000)
            median_filter(passed, size=(1, recipe.median_samples), mode="reflect").astype(np.float32)

    against = "scipy.signal.sosfiltfilt and scipy.ndimage.median_filter"
    return [compare("filter", against, lambda: clean(x_mv, recipe), theirs, 8, _unit("times as fast"), clock=CLOCK)]


def render_matplotlib() -> list[Row]:
    """A sheet of 224 x 224, against one figure of matplotlib whose lines get new data for each ECG."""
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

    against = f"matplotlib, one figure reused ({few} sheets, extrapolated to {ECGS})"
    unit = _unit("times as fast")
    return [
        compare("render", against, lambda: render_many(x_mv, recipe), theirs, 80, unit, work=ECGS / few, clock=CLOCK)
    ]


def render_opencv() -> list[Row]:
    """A sheet of 224 x 224, against OpenCV's anti-aliased polylines."""
    import cv2

    cv2.setNumThreads(1)
    recipe, x_mv = SheetRecipe(), clean(_waveforms(ECGS), FilterRecipe())
    bits = 4
    across = np.arange(x_mv.shape[-1]) * (recipe.width_px / x_mv.shape[-1] * 2**bits)

    def theirs() -> None:
        for leads in x_mv:
            sheet = np.full((recipe.height_px, recipe.width_px), 255, np.uint8)
            baselines = np.array([cell.baseline_px for cell in recipe.cells()])[:, None]
            heights = (baselines - leads * recipe.px_per_mv) * 2**bits
            points = np.stack([np.broadcast_to(across, heights.shape), heights], axis=-1).astype(np.int32)
            cv2.polylines(sheet, list(points), False, 0, 1, cv2.LINE_AA, bits)

    against = "OpenCV's anti-aliased polylines, all leads in one call"
    unit = _unit("times as fast")
    return [compare("render-opencv", against, lambda: render_many(x_mv, recipe), theirs, 15, unit, clock=CLOCK)]


def shards() -> list[Row]:
    """Sheets read back from a shard, against PNG files by Pillow; and what they take on disk."""
    disable_malloc_trim()
    sheets = render_many(clean(_waveforms(PART), FilterRecipe()), SheetRecipe())
    with TemporaryDirectory() as folder:
        parts = _stored(sheets, Path(folder, "shards"))
        for number, sheet in enumerate(sheets):
            Image.fromarray(sheet).save(Path(folder, f"{number}.png"))

        def theirs() -> NDArray[np.uint8]:
            files = (Path(folder, f"{number}.png").read_bytes() for number in range(PART))
            return np.stack([np.asarray(Image.open(io.BytesIO(content))) for content in files])

        read = compare(
            "shards",
            "PNG files read by Pillow",
            lambda: parts.read(0),
            theirs,
            10,
            _unit("times as fast", PART),
            clock=CLOCK,
        )
        size = sum(path.stat().st_size for path in Path(folder, "shards").rglob("*") if path.is_file())
    return [read, within("shards", "the bytes of the sheets", [size / sheets.nbytes], 0.5, "of the size, at most")]


def batches() -> list[Row]:
    """Shuffled batches from shards over an epoch, against one copy of the decoded bytes."""
    disable_malloc_trim()
    sheets = render_many(clean(_waveforms(PART), FilterRecipe()), SheetRecipe())
    with TemporaryDirectory() as folder:
        parts = _stored(sheets, Path(folder))
        shuffled = Batches({"sheets": {"bench": parts}}, parts.index().select("record", site=pl.lit("bench")))
        into = np.empty_like(sheets)

        def ours() -> None:
            for _ in shuffled.epoch(32, 0, 0):
                pass

        unit = _unit("of the floor's speed", PART)
        return [
            compare(
                "batches", "a copy of the decoded bytes", ours, lambda: np.copyto(into, sheets), 0.5, unit, 1, CLOCK
            )
        ]


def _unit(words: str, ecgs: int = ECGS) -> str:
    return f"{words}, {ecgs:,} ECGs, one process, processor time"


def _stored(sheets: NDArray[np.uint8], folder: Path) -> ArrayParts:
    writer = PartsWriter(folder)
    writer.write(0, sheets)
    rows = pl.int_range(len(sheets), dtype=pl.Int32, eager=True)
    writer.finish(pl.DataFrame({"record": rows.cast(pl.String), "part": rows * 0, "row": rows}))
    return ArrayParts(folder)


def _waveforms(count: int) -> NDArray[np.float32]:
    """(count, 8, 2500) millivolts of synthetic hearts."""
    rng = np.random.default_rng(0)
    hearts = [record(draw_heart(draw_person(rng), "none", 0.0, rng), 5, 500, rng)[0] for _ in range(32)]
    x_mv = np.resize(np.stack(hearts), (count, 8, 2500)).astype(np.float32)
    return x_mv + rng.normal(0, 0.01, x_mv.shape).astype(np.float32)
