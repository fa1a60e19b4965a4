"""Compiled kernels of recursive and median filters, vectorised over leads.

A recursive filter must be computed sample by sample, so SIMD runs across leads, not samples. The operations are
SciPy's, in SciPy's order and in float64: results equal `sosfiltfilt`, `sosfilt`, `median_filter` and `medfilt` bit for
bit.
"""

import numpy as np
from numba import njit

LANES = 32
"""Leads filtered together. Fewer stall on the latency of each operation; more do not fit into the L2 cache."""

DE_BRUIJN = 0x03F79D71B4CB0A89
"""Its 64 windows of six bits differ, so that the window into which a single bit shifts it tells the bit's number."""

BIT_NUMBERS = np.empty(64, np.int64)
BIT_NUMBERS[[(DE_BRUIJN << number & 2**64 - 1) >> 58 for number in range(64)]] = range(64)


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
    present = np.zeros(count // 64 + 1, np.int64)
    for row in range(len(rows)):
        padded[half : half + samples] = rows[row]
        for place in range(count):
            order[place] = keys[row, place] & places
        _finish_sorting(padded, order)
        for place in range(count):
            rank[order[place]] = place
        present[:] = 0
        for place in range(window):
            _flip(present, rank[place])
        median = _next_present(present, 0)  # a rank
        below = 0  # how many lower ranks are in the window
        for time in range(samples):
            while below < half:
                median, below = _next_present(present, median + 1), below + 1
            while below > half:
                median, below = _last_present(present, median - 1), below - 1
            rows[row, time] -= padded[order[median]]
            if time + window < count:
                leaving, entering = rank[time], rank[time + window]
                _flip(present, leaving)
                _flip(present, entering)
                below += int(entering < median) - int(leaving < median)
                if leaving == median:
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
    present[rank >> 6] ^= np.int64(1) << (rank & 63)


@njit(cache=True, nogil=True)
def _next_present(present, rank):
    """The first rank in the set that is at least `rank`; the end of the set if there is none."""
    word = rank >> 6
    bits = present[word] & (np.int64(-1) << (rank & 63))
    while bits == 0 and word + 1 < len(present):
        word += 1
        bits = present[word]
    return (word << 6) + (_bit_number(bits & -bits) if bits else 63)


@njit(cache=True, nogil=True)
def _last_present(present, rank):
    """The last rank in the set that is at most `rank`; there is one."""
    word = rank >> 6
    bits = present[word] & ~(np.int64(-2) << (rank & 63))
    while bits == 0:
        word -= 1
        bits = present[word]
    if bits < 0:
        return (word << 6) + 63
    for shift in (1, 2, 4, 8, 16, 32):
        bits |= bits >> shift
    return (word << 6) + _bit_number(bits - (bits >> 1))


@njit(cache=True, nogil=True)
def _bit_number(bit):
    """Number of the only bit that is set."""
    return BIT_NUMBERS[((bit * DE_BRUIJN) >> 58) & 63]


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
