"""Random weights that are a function of a seed."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws from `seed` inside this block; its global generator is afterwards what it was before.

    Modules are built in it, on the CPU, as their constructors draw from the global generator.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
