"""BEiT's tables of relative position bias: shared to one a block, and from one grid of patches to another."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from torch import Tensor

CLASS_ROWS = 3
"""Last rows of a table: class to patch, patch to class, class to class."""

TABLE = "relative_position_bias_table"
INDEX = "relative_position_index"


def expand_shared_table(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """The table that pretraining shares between blocks, copied into each block; index buffers are left out."""
    expanded = {name: tensor for name, tensor in state.items() if INDEX not in name}
    shared = expanded.pop(f"rel_pos_bias.{TABLE}", None)
    if shared is not None:
        expanded |= {f"blocks.{block}.attn.{TABLE}": shared.clone() for block in range(depth)}
    return expanded


def grid_of(table: Tensor) -> int:
    """Patches along a side of the square grid that a table (R, heads) belongs to."""
    offsets = round((table.shape[0] - CLASS_ROWS) ** 0.5)
    if offsets % 2 == 0 or offsets * offsets != table.shape[0] - CLASS_ROWS:
        raise ValueError(f"a table of {table.shape[0]} rows does not belong to a square grid of patches")
    return (offsets + 1) // 2


def resize_table(table: Tensor, grid: int) -> Tensor:
    """A table (R, heads) for another square grid of patches, by the rule of BEiT's authors.

    Offsets of the old grid are laid on a geometric progression that reaches as far as the new grid's offsets, and a
    bicubic spline through them is evaluated at the new integers; beyond the last one the edge value holds.
    """
    source, target = 2 * grid_of(table) - 1, 2 * grid - 1
    if source == target:
        return table
    known = _geometric_offsets(source // 2, target // 2)
    wanted = np.arange(-(target // 2), target // 2 + 1.0).clip(known[0], known[-1])
    sheets = table[:-CLASS_ROWS].T.reshape(-1, source, source).double().numpy()
    resized = np.stack([RectBivariateSpline(known, known, sheet, kx=3, ky=3, s=0)(wanted, wanted) for sheet in sheets])
    rows = torch.from_numpy(resized).to(table.dtype).reshape(len(sheets), -1).T
    return torch.cat([rows, table[-CLASS_ROWS:]])


def _geometric_offsets(steps: int, reach: int) -> NDArray[np.float64]:
    """0, 1, 1 + q, 1 + q + q^2, ... and their negatives, with q found so that the last of them is `reach`."""
    low, high, ratio = 1.01, 1.5, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if sum(ratio**power for power in range(steps)) > reach:
            high = ratio
        else:
            low = ratio
    positive = np.cumsum([ratio**power for power in range(steps)])
    return np.concatenate([-positive[::-1], [0.0], positive])
