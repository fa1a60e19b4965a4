"""Parts done one after the other, or by several processes that each own whole parts."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

from ecg_pipeline.ecg import Progress, silent

# <malloc.h>: arguments of mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

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
        keep_memory()
        for item in items:
            collect(work(item))
        return results
    # Spawned, not forked: the parent may hold threads (Zarr, polars), and a fork of those can hang.
    with ProcessPoolExecutor(min(workers, len(items)), get_context("spawn"), keep_memory) as pool:
        for result in pool.map(work, items):
            collect(result)
    return results


def keep_memory() -> None:
    """Let this process keep the memory that it frees: parts of a hundred megabytes come and go, and on a virtual
    machine a fresh page costs more than writing it. Nothing happens where the C library is not glibc.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_ARENA_MAX, 1)
