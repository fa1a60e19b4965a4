"""Timing two implementations of the same work alternately (A B A B ...), so that a busy machine slows both alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

PAIRS = 5


@dataclass(frozen=True)
class Row:
    """One result. ratio: how many times as fast ours is as `against`, median over pairs of runs; low, high: its range.

    For a limit (`within`), ratio is the measured value. met: whether the target is reached or the limit is kept. unit:
    unit of the ratio, as text.
    """

    name: str
    against: str
    ratio: float
    low: float
    high: float
    target: float
    met: bool
    unit: str


def compare(
    name: str,
    *,
    against: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    target: float,
    unit: str,
    work: float = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Run both once to warm up, then `PAIRS` times alternately; a pair's ratio is the time of theirs over that of ours.

    work: work of one call of `ours` relative to one of `theirs`; if it is not 1, theirs is extrapolated, and `against`
    must say so. clock: seconds; `time.process_time` is the processor time of all threads.
    """
    ours()
    theirs()
    ratios = []
    for _ in range(PAIRS):
        ours_s = _seconds(ours, clock)
        ratios.append(work * _seconds(theirs, clock) / ours_s)
    ratio = median(ratios)
    return Row(name, against, ratio, min(ratios), max(ratios), target, ratio >= target, unit)


def within(name: str, *, against: str, measured: Sequence[float], limit: float, unit: str) -> Row:
    """A result that is met if the median of the measured values is at most a limit."""
    middle = median(measured)
    return Row(name, against, middle, min(measured), max(measured), limit, middle <= limit, unit)


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    call()
    return clock() - began
