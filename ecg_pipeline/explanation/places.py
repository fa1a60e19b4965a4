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

    axes: 2 for images (B, C, H, W), 1 for waveforms (B, L, T). grid: size of the last convolution's output along them.
    """

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.convolution = f"conv{axes}d"
        self.grid = (0,) * axes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        out = self.intercept(name.rstrip("_"), func, args=args, kwargs=kwargs or {})
        if name == self.convolution:
            self.grid = tuple(out.shape[2:])
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
    matrices = [_overlap(cells, wanted, shares) for cells, wanted in zip(shares.shape[1:], size, strict=True)]
    across = shares.double() @ matrices[-1].mT
    return across if len(matrices) == 1 else matrices[0] @ across


def _overlap(cells: int, wanted: int, like: Tensor) -> Tensor:
    """(wanted, cells): share of each cell in each pixel or sample, where both divide the same length evenly.

    Columns sum to 1.
    """
    edge = torch.arange(wanted + 1, dtype=torch.float64, device=like.device) * cells / wanted
    cell = torch.arange(cells, dtype=torch.float64, device=like.device)
    below = (edge[:, None] - cell).clamp(0, 1)
    return below[1:] - below[:-1]
