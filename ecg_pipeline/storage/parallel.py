"""Run one function over many parts, in this process or in a pool of processes that each own whole parts."""

import ctypes
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from typing import TypeVar

from ecg_pipeline.ecg import Progress, no_progress

# <malloc.h>: arguments of mallopt.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

Item = TypeVar("Item")


def run_parallel(
    work: Callable[[Item], None], items: Sequence[Item], workers: int = 1, progress: Progress = no_progress
) -> None:
    """Call `work` on every item and report how many are done. The first error ends it; what is written stays.

    work: with several workers a top-level function, or a `functools.partial` of one: it is sent to fresh processes.
    """
    total = len(items)
    if workers <= 1 or total <= 1:
        disable_malloc_trim()
        for done, item in enumerate(items, start=1):
            work(item)
            progress(done, total)
        return
    done, under_way = 0, deque[Future[None]]()
    # Spawned, not forked: the parent may hold threads (Zarr, polars), and a fork of those can hang.
    with ProcessPoolExecutor(min(workers, total), get_context("spawn"), _begin) as pool:

        def finish(until: int) -> None:
            nonlocal done
            while len(under_way) > until:
                under_way.popleft().result()
                done += 1
                progress(done, total)

        # A few at a time: what waits in the pool is held twice.
        for item in items:
            under_way.append(pool.submit(work, item))
            finish(2 * workers)
        finish(0)


def _begin() -> None:
    """Initialise a worker process: no malloc trimming, and it ends with its parent process."""
    disable_malloc_trim()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent process has died; otherwise this one would wait for work for ever, or go on writing."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def disable_malloc_trim() -> None:
    """Keep freed memory in this process (glibc `mallopt`); nothing happens with another C library.

    Arrays of a hundred megabytes come and go, and on a virtual machine a fresh page costs more than writing it.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_ARENA_MAX, 1)
