"""Two ways to do the same work, timed in turn (A B A B ...), so that a busy machine slows both alike."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

PAIRS = 5


@dataclass(frozen=True)
class Row:
    """How many times as fast `name` is as `against`: the median over pairs of runs, with the least and the most.

    met: whether the median reaches `target`, or stays below it where that is a limit (`within`). unit: what is counted.
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
    against: str,
    ours: Callable[[], object],
    theirs: Callable[[], object],
    target: float,
    unit: str,
    work: float = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Row:
    """Run both once to warm up and then `PAIRS` times in turn; a pair's ratio is theirs over ours for equal work.

    work: how many times as much one call of `ours` does as one of `theirs`; where it is not 1, theirs is extrapolated,
    and `against` must say so. clock: seconds; `time.process_time` counts the processor time of all threads.
    """
    ours()
    theirs()
    ratios = []
    for _ in range(PAIRS):
        ours_s = _seconds(ours, clock)
        ratios.append(work * _seconds(theirs, clock) / ours_s)
    ratio = median(ratios)
    return Row(name, against, ratio, min(ratios), max(ratios), target, ratio >= target, unit)


def within(name: str, against: str, measured: Sequence[float], limit: float, unit: str) -> Row:
    """A row that is met where the median of what was measured is no more than a limit; `ratio` is that median."""
    middle = median(measured)
    return Row(name, against, middle, min(measured), max(measured), limit, middle <= limit, unit)


def _seconds(call: Callable[[], object], clock: Callable[[], float]) -> float:
    began = clock()
    call()
    return clock() - began
