"""Places in a network's input of the values that its layers compute: pixels of an image, samples of a waveform."""

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

PREFIX_TOKENS = 8
"""Greatest number of tokens before those of the patches: class, distillation and register tokens."""


class GridMode(TorchFunctionMode):
    """Intercepts the operations of a forward pass.

    axes: 2 for images (B, C, H, W), 1 for waveforms (B, L, T). grid: size of the last convolution's output along them,
    without the place more that an even kernel gives.
    """

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.convolution = f"conv{axes}d"
        self.grid = (0,) * axes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        out = self.intercept(name.rstrip("_"), func, args=args, kwargs=kwargs or {})
        if name == self.convolution:
            self.grid = tuple(map(min, out.shape[2:], args[0].shape[2:]))
        return out

    def intercept(self, name: str, func: Callable, *, args: Any, kwargs: Any) -> Any:
        """Run an operation, or something in its place."""
        raise NotImplementedError


def prefix_tokens(tokens: int, grid: Sequence[int]) -> int | None:
    """Number of tokens before those of a grid's cells; None if these tokens are not those of the grid."""
    prefix = tokens - prod(grid)
    return prefix if 0 <= prefix <= PREFIX_TOKENS and prod(grid) else None


def spread(shares: Tensor, size: Sequence[int]) -> Tensor:
    """(B, h, w) -> (B, H, W), or (B, t) -> (B, T), with the same sums: each value spread evenly over its area."""
    shares = shares.double()
    for axis, wanted in enumerate(size, start=1):
        shares = _spread(shares, axis, wanted)
    return shares


def _spread(shares: Tensor, axis: int, wanted: int) -> Tensor:
    """Shares of `wanted` places along an axis, where both divide the same length evenly: differences of the sum of all
    shares up to the edges of the places, which grows evenly within a cell."""
    cells = shares.shape[axis]
    edge = torch.arange(wanted + 1, dtype=torch.float64, device=shares.device) * cells / wanted
    cell = edge.long().clamp(max=cells - 1)
    own = shares.index_select(axis, cell)
    before = shares.cumsum(axis).index_select(axis, cell) - own
    within = (edge - cell).reshape(-1, *(1,) * (shares.ndim - 1 - axis))
    return (before + own * within).diff(dim=axis)
