"""Rendering: eight leads to one grey image, without losing QRS peaks and without a plotting library.

A pixel column is 11 to 22 samples wide, so a line through one sample per column would miss R waves at random. Here each
column is inked from the lowest to the highest value of the trace between its two borders (values at the borders are
interpolated), widened by half a stroke above and below. A pixel's ink is the share of its height that is covered; where
traces cross, the darker value counts.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ecg_pipeline.images.layout import SheetRecipe


def render(x_mv: NDArray, recipe: SheetRecipe) -> NDArray[np.uint8]:
    """Render one ECG. x_mv: (8, T), leads as in `ecg.INDEPENDENT_LEADS`. Returns (H, W) uint8, 255 = paper, 0 = ink."""
    return render_many(x_mv[None], recipe)[0]


def render_many(x_mv: NDArray, recipe: SheetRecipe) -> NDArray[np.uint8]:
    """Render N ECGs. x_mv: (N, 8, T) millivolts. Returns (N, H, W) uint8, 255 = paper, 0 = ink.

    The T samples span the width of a cell. A wrong shape or a value that is not finite is a ValueError.
    """
    cells = recipe.cells()
    if x_mv.ndim != 3 or x_mv.shape[1] != len(cells) or x_mv.shape[2] < 1:
        raise ValueError(f"an image is rendered from ({len(cells)}, T) millivolts, not from {x_mv.shape[1:]}")
    if not np.isfinite(x_mv).all():
        raise ValueError("a value that is not finite cannot be rendered")
    images = np.full((len(x_mv), recipe.height_px, recipe.width_px), 255, np.uint8)
    lefts = np.array([cell.left_px for cell in cells])
    baselines = np.array([cell.baseline_px for cell in cells])
    x_mv = np.ascontiguousarray(x_mv)
    _ink_traces(x_mv, lefts, baselines, cells[0].width_px, recipe.px_per_mv, recipe.stroke_px / 2, images)
    return images


@njit(cache=True, nogil=True)
def _ink_traces(x_mv, lefts, baselines, width, px_per_mv, half_stroke, images):
    """Ink the images (N, H, W) with the traces x_mv (N, L, T): lead l from column lefts[l] on, 0 mV at baselines[l]."""
    rows, samples = images.shape[1], x_mv.shape[2]
    borders = np.minimum(np.arange(width + 1) * samples / width, samples - 1.0)
    before = borders.astype(np.int64)
    after = np.minimum(before + 1, samples - 1)
    weight = borders - before
    first_sample = np.ceil(borders).astype(np.int64)
    for ecg in range(x_mv.shape[0]):
        image = images[ecg]
        for lead in range(x_mv.shape[1]):
            trace, baseline, left = x_mv[ecg, lead], baselines[lead], lefts[lead]
            last = np.float64(trace[0])
            for column in range(width):
                # Between borders the trace is interpolated linearly, so its extremes are samples or border values.
                first, to = last, column + 1
                last = (1 - weight[to]) * trace[before[to]] + weight[to] * trace[after[to]]
                least = most = trace[first_sample[column]]
                for sample in range(first_sample[column] + 1, first_sample[to]):
                    value = trace[sample]
                    least = value if value < least else least
                    most = value if value > most else most
                low, high = min(first, last), max(first, last)
                if first_sample[column] < first_sample[to]:
                    low, high = min(low, least), max(high, most)
                upper = _clip(baseline - high * px_per_mv - half_stroke, rows)
                lower = _clip(baseline - low * px_per_mv + half_stroke, rows)
                _ink(image, left + column, upper, lower)


@njit(cache=True, nogil=True)
def _ink(image, column, upper, lower):
    """Ink a pixel column between two heights; the first and the last row by the share that is covered."""
    first, last = int(upper), int(np.ceil(lower)) - 1
    if first < last:
        image[first, column] = min(image[first, column], _grey(first + 1.0 - upper))
        for row in range(first + 1, last):
            image[row, column] = 0
        image[last, column] = min(image[last, column], _grey(lower - last))
    elif first == last:
        image[first, column] = min(image[first, column], _grey(lower - upper))


@njit(cache=True, nogil=True)
def _grey(covered):
    return np.uint8(255 - int(255 * covered + 0.5))


@njit(cache=True, nogil=True)
def _clip(height, rows):
    """Clip a height in pixels to the image, so that any voltage gives a valid row."""
    return min(max(height, 0.0), float(rows))
