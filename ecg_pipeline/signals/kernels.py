"""Compiled kernels of the band-pass and the median filter, vectorised over leads.

A recursive filter must be computed sample by sample, so SIMD runs across leads, not samples. The operations are
SciPy's, in SciPy's order and in float64: results equal `sosfiltfilt`, `sosfilt` and `median_filter` bit for bit.
"""

import numpy as np
from numba import njit

LANES = 32
"""Leads filtered together. Fewer stall on the latency of each operation; more do not fit into the L2 cache."""


@njit(cache=True, nogil=True)
def filter_rows(rows, sections, steady_state, padding, window, out):
    """Filter each row of `rows` (R, T) forward and backward, then take its running median, into `out` (R, T).

    sections: (S, 6) second-order sections; steady_state: (S, 2) their steady state for a constant 1 (`sosfilt_zi`).
    padding: samples added at either end, a mirror image about the last sample (pad type "even"); less than T.
    window: samples of the median, odd; the ends are mirrored between samples (mode "reflect").
    """
    samples = rows.shape[1]
    lanes = np.empty((samples + 2 * padding, LANES))
    ordered = np.empty((window, LANES))
    for first in range(0, len(rows), LANES):
        used = min(LANES, len(rows) - first)
        group = rows[first : first + used]
        centre = lanes[padding : padding + samples]
        for time in range(samples):
            row = centre[time]
            for lane in range(used):
                row[lane] = group[lane, time]
            for lane in range(used, LANES):
                row[lane] = 0.0
        for away in range(1, padding + 1):
            lanes[padding - away] = centre[away]
            lanes[padding + samples - 1 + away] = centre[samples - 1 - away]
        _pass(lanes, 0, 1, sections, steady_state)
        _pass(lanes, len(lanes) - 1, -1, sections, steady_state)
        for time in range(samples):
            _median(centre, time, ordered)
            middle = ordered[window // 2]
            for lane in range(used):
                out[first + lane, time] = middle[lane]


@njit(cache=True, nogil=True)
def run_sections(rows, sections, out):
    """Run second-order `sections` (S, 6) forward over each row of `rows` (R, T), from zero state, into `out` (R, T)."""
    samples = rows.shape[1]
    lanes, rest = np.empty((samples, LANES)), np.zeros((len(sections), 2))
    for first in range(0, len(rows), LANES):
        used = min(LANES, len(rows) - first)
        for time in range(samples):
            for lane in range(LANES):
                lanes[time, lane] = rows[first + lane, time] if lane < used else 0.0
        _pass(lanes, 0, 1, sections, rest)
        for time in range(samples):
            for lane in range(used):
                out[first + lane, time] = lanes[time, lane]


@njit(cache=True, nogil=True)
def _pass(lanes, begin, step, sections, steady_state):
    """Run the sections over `lanes` (T, LANES) in place from `begin` on; their initial state is `steady_state` times
    the first sample."""
    start, one, two = lanes[begin].copy(), np.empty(LANES), np.empty(LANES)
    for section in range(len(sections)):
        b0, b1, b2, a1, a2 = (
            sections[section, 0],
            sections[section, 1],
            sections[section, 2],
            sections[section, 4],
            sections[section, 5],
        )
        for lane in range(LANES):
            one[lane] = steady_state[section, 0] * start[lane]
            two[lane] = steady_state[section, 1] * start[lane]
        for time in range(len(lanes)):
            row = lanes[begin + step * time]
            for lane in range(LANES):
                x = row[lane]
                y = b0 * x + one[lane]
                one[lane] = b1 * x - a1 * y + two[lane]
                two[lane] = b2 * x - a2 * y
                row[lane] = y


@njit(cache=True, nogil=True)
def _median(lanes, time, ordered):
    """Sort the window around `time` of every lane into `ordered` (window, LANES), by odd-even transposition."""
    window, samples = len(ordered), len(lanes)
    for place in range(window):
        at = time + place - window // 2
        at = -1 - at if at < 0 else at
        row, to = lanes[2 * samples - 1 - at if at >= samples else at], ordered[place]
        for lane in range(LANES):
            to[lane] = row[lane]
    for pass_number in range(window if window > 1 else 0):
        for place in range(pass_number % 2, window - 1, 2):
            lower, upper = ordered[place], ordered[place + 1]
            for lane in range(LANES):
                least, most = min(lower[lane], upper[lane]), max(lower[lane], upper[lane])
                lower[lane], upper[lane] = least, most
