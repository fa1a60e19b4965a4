"""Compiled kernels of recursive and median filters, vectorised over leads.

A recursive filter must be computed sample by sample, so SIMD runs across leads, not samples. The operations are
SciPy's, in SciPy's order and in float64: results equal `sosfiltfilt`, `sosfilt`, `median_filter` and `medfilt` bit for
bit.
"""

import numpy as np
from numba import njit

LANES = 32
"""Leads filtered together. Fewer stall on the latency of each operation; more do not fit into the L2 cache."""

DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
"""Its 64 windows of six bits differ, so that the window into which a single bit shifts it tells the bit's number."""

BIT_NUMBERS = np.empty(64, np.int64)
BIT_NUMBERS[[(int(DE_BRUIJN) << number & 2**64 - 1) >> 58 for number in range(64)]] = range(64)


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
def filter_both_ways(rows, sections, steady_state, padding):
    """Filter each row of `rows` (R, T) float64 forward and backward in place, its ends reflected through their last
    samples (pad type "odd").

    sections, steady_state: as in `filter_rows`. padding: samples added at either end; less than T.
    """
    samples = rows.shape[1]
    lanes = np.empty((samples + 2 * padding, LANES))
    for first in range(0, len(rows), LANES):
        used = min(LANES, len(rows) - first)
        group = rows[first : first + used]
        centre = lanes[padding : padding + samples]
        for time in range(samples):
            for lane in range(LANES):
                centre[time, lane] = group[lane, time] if lane < used else 0.0
        for away in range(1, padding + 1):
            for lane in range(LANES):
                lanes[padding - away, lane] = 2 * centre[0, lane] - centre[away, lane]
                lanes[padding + samples - 1 + away, lane] = (
                    2 * centre[samples - 1, lane] - centre[samples - 1 - away, lane]
                )
        _pass(lanes, 0, 1, sections, steady_state)
        _pass(lanes, len(lanes) - 1, -1, sections, steady_state)
        for lane in range(used):
            for time in range(samples):
                group[lane, time] = centre[time, lane]


@njit(cache=True, nogil=True)
def standardise_rows(rows, least, added, out):
    """Each row of `rows` (R, T) less its mean, over its population deviation plus `added`, into `out` (R, T) float64.

    A row whose deviation is below `least` becomes 0. Sums have the same order on every machine.
    """
    for row in range(len(rows)):
        samples = rows[row]
        mean = _sum_of_powers(samples, 0.0, 1) / len(samples)
        deviation = np.sqrt(_sum_of_powers(samples, mean, 2) / len(samples))
        factor = 0.0 if deviation < least else 1 / (deviation + added)
        for time in range(len(samples)):
            out[row, time] = (samples[time] - mean) * factor


@njit(cache=True, nogil=True)
def _sum_of_powers(samples, mean, power):
    """Sum of the deviations from `mean`, or of their squares, by a partial sum a lane."""
    partial = np.zeros(LANES)
    for first in range(0, len(samples) // LANES * LANES, LANES):
        for lane in range(LANES):
            away = samples[first + lane] - mean
            partial[lane] += away if power == 1 else away * away
    for place in range(len(samples) // LANES * LANES, len(samples)):
        away = samples[place] - mean
        partial[0] += away if power == 1 else away * away
    return partial.sum()


def subtract_median(rows, window):
    """Subtract from each row of `rows` (R, T) float64 its running median, in place. window: samples, odd; beyond the
    ends lie zeros, as in `medfilt`.

    Each row is sorted once. Then the window is a set of ranks, and its median moves by a few ranks a sample.
    """
    keys = np.empty((len(rows), rows.shape[1] + window - 1), np.int64)
    _sort_keys(rows, window // 2, keys)
    keys.sort(axis=-1)  # NumPy's sort of integers uses SIMD, numba's does not
    _subtract_median(rows, window, keys)


@njit(cache=True, nogil=True)
def _sort_keys(rows, half, keys):
    """Integers that sort as the samples do, but for the last bits, which hold the sample's place. `half` zeros lie at
    either end of a row."""
    padded = np.zeros(keys.shape[1])
    bits, places = padded.view(np.int64), _bit_mask(keys.shape[1])
    for row in range(len(rows)):
        padded[half : half + rows.shape[1]] = rows[row]
        for place in range(len(bits)):
            # The bits of floats sort as the floats do; of negative ones all but the sign must be inverted.
            key = bits[place] ^ ((bits[place] >> 63) & 0x7FFFFFFFFFFFFFFF)
            keys[row, place] = (key & ~places) | place


@njit(cache=True, nogil=True)
def _subtract_median(rows, window, keys):
    samples, half, count, places = rows.shape[1], window // 2, keys.shape[1], _bit_mask(keys.shape[1])
    padded = np.zeros(count)
    order, rank = np.empty(count, np.int32), np.empty(count, np.int32)
    present = np.zeros((count >> 6) + 4, np.uint64)
    for row in range(len(rows)):
        padded[half : half + samples] = rows[row]
        for place in range(count):
            order[place] = keys[row, place] & places
        _finish_sorting(padded, order)
        for place in range(count):
            # The first 64 numbers are no ranks, so that there are always 64 below one.
            rank[order[place]] = place + 64
        present[:] = 0
        for place in range(window):
            _flip(present, rank[place])
        median = 63
        for _ in range(half + 1):
            median = _next_present(present, median)
        for time in range(samples):
            rows[row, time] -= padded[order[median - 64]]
            if time + window < count:
                leaving, entering = rank[time], rank[time + window]
                _flip(present, leaving)
                _flip(present, entering)
                more_below = int(entering < median) - int(leaving < median)
                if more_below > 0:
                    median = _last_present(present, median)
                elif more_below < 0 or leaving == median:
                    median = _next_present(present, median)


@njit(cache=True, nogil=True)
def _finish_sorting(values, order):
    """Sort places whose values are in order but for their last bits."""
    for end in range(1, len(order)):
        place, at = order[end], end
        while at > 0 and values[order[at - 1]] > values[place]:
            order[at] = order[at - 1]
            at -= 1
        order[at] = place


@njit(cache=True, nogil=True)
def _flip(present, rank):
    present[rank >> 6] ^= np.uint64(1) << np.uint64(rank & 63)


@njit(cache=True, nogil=True)
def _next_present(present, rank):
    """The first rank in the set above `rank`; any number if there is none."""
    while True:
        word, shift = (rank + 1) >> 6, np.uint64((rank + 1) & 63)
        bits = (present[word] >> shift) | ((present[word + 1] << np.uint64(1)) << (np.uint64(63) - shift))
        if bits:
            return rank + 1 + _bit_number(bits & (~bits + np.uint64(1)))
        rank += 64
        if rank >> 6 >= len(present) - 2:
            return rank


@njit(cache=True, nogil=True)
def _last_present(present, rank):
    """The last rank in the set below `rank`; any number if there is none."""
    while True:
        word, shift = (rank - 64) >> 6, np.uint64((rank - 64) & 63)
        bits = (present[word] >> shift) | ((present[word + 1] << np.uint64(1)) << (np.uint64(63) - shift))
        if bits:
            for less in (1, 2, 4, 8, 16, 32):
                bits |= bits >> np.uint64(less)
            return rank - 64 + _bit_number(bits ^ (bits >> np.uint64(1)))
        rank -= 64
        if rank < 64:
            return rank


@njit(cache=True, nogil=True)
def _bit_number(bit):
    """Number of the only bit that is set."""
    return BIT_NUMBERS[(bit * DE_BRUIJN) >> np.uint64(58)]


@njit(cache=True, nogil=True)
def _bit_mask(count):
    """Bits that hold every number below `count`."""
    mask = 1
    while mask < count:
        mask = 2 * mask + 1
    return mask


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
