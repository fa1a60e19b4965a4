"""Parts done one after the other, or by several processes that each own whole parts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from ecg_pipeline.ecg import Progress, silent

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int = 1, progress: Progress = silent
) -> list[Result]:
    """`work` of every item, in order; `progress` counts items. The first error ends it, what is written stays.

    work: with several workers a top-level function, or a `functools.partial` of one: it goes to fresh processes.
    """
    results: list[Result] = []

    def collect(result: Result) -> None:
        results.append(result)
        progress(len(results), len(items))

    if workers <= 1 or len(items) <= 1:
        for item in items:
            collect(work(item))
        return results
    # Spawned, not forked: the parent may hold threads (Zarr, polars), and a fork of those can hang.
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=get_context("spawn")) as pool:
        for result in pool.map(work, items):
            collect(result)
    return results
