"""A fresh process for what measures memory: it holds nothing that earlier comparisons have left in this one."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def alone(call: Callable[P, R], *arguments: P.args, **named: P.kwargs) -> R:
    """What a call gives in a process of its own. The call, its arguments and what it gives are pickled."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(call, *arguments, **named).result()
