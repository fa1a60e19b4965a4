"""Running a function in a fresh process, so that its memory is measured without that of earlier benchmarks."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def run_in_new_process(call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """Call a function in a new process and return its result. Function, arguments and result must be picklable."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(call, *arguments, **named).result()
