"""Run one function over many items, in this process or in worker processes."""

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
    work: Callable[[Item], None], items: Sequence[Item], *, workers: int = 1, progress: Progress = no_progress
) -> None:
    """Call `work` on every item and report progress. The first error stops it and is raised.

    work: must be picklable if there are several workers: a top-level function, or a `functools.partial` of one.
    """
    total = len(items)
    if workers <= 1 or total <= 1:
        disable_malloc_trim()
        for done, item in enumerate(items, start=1):
            work(item)
            progress(done, total)
        return
    done, pending = 0, deque[Future[None]]()
    # Spawned, not forked: the parent may have threads (Zarr, polars), and a fork of those can hang.
    with ProcessPoolExecutor(min(workers, total), get_context("spawn"), _initialise_worker) as pool:

        def wait_until_pending(limit: int) -> None:
            nonlocal done
            while len(pending) > limit:
                pending.popleft().result()
                done += 1
                progress(done, total)

        # Submitted a few at a time, because each waiting item is pickled into the pool's queue.
        for item in items:
            pending.append(pool.submit(work, item))
            wait_until_pending(2 * workers)
        wait_until_pending(0)


def _initialise_worker() -> None:
    """Initialise a worker process: no malloc trimming, and exit with the parent process."""
    disable_malloc_trim()
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    """Exit when the parent process has died, instead of waiting for work or continuing to write."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def disable_malloc_trim() -> None:
    """Keep freed memory in this process (glibc `mallopt`). Does nothing with another C library.

    Shards are arrays of a hundred megabytes; on a virtual machine a page fault costs more than writing the page.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(M_MMAP_MAX, 0)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(M_ARENA_MAX, 1)
