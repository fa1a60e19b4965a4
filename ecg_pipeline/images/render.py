"""The renderer: eight leads to one grey sheet, without losing a QRS peak and without a plotting library.

A pixel column is 11 to 22 samples wide, so joining samples at pixel centres would drop R waves at random. Here every
column is inked over the whole extent of its samples, from the lowest to the highest value the trace takes between the
column's two borders (values at the borders are interpolated), widened by half a stroke on either side. A pixel's ink
is the part of its height that this extent covers; where traces cross the darker one stays.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from ecg_pipeline.images.layout import SheetRecipe


def render(x_mv: NDArray, recipe: SheetRecipe) -> NDArray[np.uint8]:
    """Draw one ECG. x_mv: (8, T), leads as in `ecg.INDEPENDENT_LEADS`. Returns (H, W), 255 = paper, 0 = ink."""
    return render_many(x_mv[None], recipe)[0]


def render_many(x_mv: NDArray, recipe: SheetRecipe) -> NDArray[np.uint8]:
    """Draw N ECGs. x_mv: (N, 8, T) millivolts. Returns (N, H, W) uint8, 255 = paper, 0 = ink.

    The T samples fill a cell's width, sample i at time i. A wrong shape or a value that is not finite is a ValueError.
    """
    cells = recipe.cells()
    if x_mv.ndim != 3 or x_mv.shape[1] != len(cells) or x_mv.shape[2] < 1:
        raise ValueError(f"a sheet is drawn from ({len(cells)}, T) millivolts, not from {x_mv.shape[1:]}")
    if not np.isfinite(x_mv).all():
        raise ValueError("a value that is not finite cannot be drawn")
    sheets = np.full((len(x_mv), recipe.height_px, recipe.width_px), 255, np.uint8)
    lefts = np.array([cell.left_px for cell in cells])
    baselines = np.array([cell.baseline_px for cell in cells])
    x_mv = np.ascontiguousarray(x_mv)
    _draw(x_mv, lefts, baselines, cells[0].width_px, recipe.px_per_mv, recipe.stroke_px / 2, sheets)
    return sheets


@njit(cache=True, nogil=True)
def _draw(x_mv, lefts, baselines, width, px_per_mv, half_stroke, sheets):
    """Ink `sheets` (N, H, W) with the traces `x_mv` (N, L, T), lead l from column lefts[l] on, about baselines[l]."""
    rows, samples = sheets.shape[1], x_mv.shape[2]
    borders = np.minimum(np.arange(width + 1) * samples / width, samples - 1.0)
    before = borders.astype(np.int64)
    after = np.minimum(before + 1, samples - 1)
    part = borders - before
    inside = np.ceil(borders).astype(np.int64)
    for record in range(x_mv.shape[0]):
        sheet = sheets[record]
        for lead in range(x_mv.shape[1]):
            trace, baseline, left = x_mv[record, lead], baselines[lead], lefts[lead]
            last = np.float64(trace[0])
            for column in range(width):
                # Between borders the trace is interpolated linearly, so its extremes are samples or border values.
                first, to = last, column + 1
                last = (1 - part[to]) * trace[before[to]] + part[to] * trace[after[to]]
                least = most = trace[inside[column]]
                for sample in range(inside[column] + 1, inside[to]):
                    value = trace[sample]
                    least = value if value < least else least
                    most = value if value > most else most
                low, high = min(first, last), max(first, last)
                if inside[column] < inside[to]:
                    low, high = min(low, least), max(high, most)
                upper = _on_sheet(baseline - high * px_per_mv - half_stroke, rows)
                lower = _on_sheet(baseline - low * px_per_mv + half_stroke, rows)
                _ink(sheet, left + column, upper, lower)


@njit(cache=True, nogil=True)
def _ink(sheet, column, upper, lower):
    """Ink a column from one height to another, the first and the last row as far as they are covered."""
    first, last = int(upper), int(np.ceil(lower)) - 1
    if first < last:
        sheet[first, column] = min(sheet[first, column], _grey(first + 1.0 - upper))
        for row in range(first + 1, last):
            sheet[row, column] = 0
        sheet[last, column] = min(sheet[last, column], _grey(lower - last))
    elif first == last:
        sheet[first, column] = min(sheet[first, column], _grey(lower - upper))


@njit(cache=True, nogil=True)
def _grey(covered):
    return np.uint8(255 - int(255 * covered + 0.5))


@njit(cache=True, nogil=True)
def _on_sheet(height, rows):
    """A height in pixels, no further than the sheet's edges: a voltage of any size stays a valid row."""
    return min(max(height, 0.0), float(rows))
