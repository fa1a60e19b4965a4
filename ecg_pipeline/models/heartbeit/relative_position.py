"""BEiT's relative position bias tables: from one shared table to one per block, and resized to another grid."""

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
    """A pretraining state with its shared table copied into each block, and without index buffers."""
    expanded = {name: tensor for name, tensor in state.items() if INDEX not in name}
    shared = expanded.pop(f"rel_pos_bias.{TABLE}", None)
    if shared is not None:
        expanded |= {f"blocks.{block}.attn.{TABLE}": shared.clone() for block in range(depth)}
    return expanded


def grid_of(table: Tensor) -> int:
    """Patches along a side of the square grid of a table (R, heads). ValueError if R fits no square grid."""
    offsets = round((table.shape[0] - CLASS_ROWS) ** 0.5)
    if offsets % 2 == 0 or offsets * offsets != table.shape[0] - CLASS_ROWS:
        raise ValueError(f"a table of {table.shape[0]} rows does not belong to a square grid of patches")
    return (offsets + 1) // 2


def resize_table(table: Tensor, grid: int) -> Tensor:
    """A table (R, heads) interpolated to another square grid of patches, by the rule of BEiT's authors.

    The old grid's offsets are placed on a geometric progression that spans the new grid's offsets, and a bicubic spline
    through them is evaluated at the new integer offsets; beyond the last one the edge value is used.
    """
    source, target = 2 * grid_of(table) - 1, 2 * grid - 1
    if source == target:
        return table
    known = _geometric_offsets(source // 2, target // 2)
    wanted = np.arange(-(target // 2), target // 2 + 1.0).clip(known[0], known[-1])
    heads = table[:-CLASS_ROWS].T.reshape(-1, source, source).double().numpy()
    resized = np.stack([RectBivariateSpline(known, known, head, kx=3, ky=3, s=0)(wanted, wanted) for head in heads])
    rows = torch.from_numpy(resized).to(table.dtype).reshape(len(heads), -1).T
    return torch.cat([rows, table[-CLASS_ROWS:]])


def _geometric_offsets(steps: int, reach: int) -> NDArray[np.float64]:
    """0, 1, 1 + q, 1 + q + q^2, ... and their negatives, with q such that the last of them is `reach`."""
    low, high, ratio = 1.01, 1.5, 1.5
    while high - low > 1e-6:
        ratio = (low + high) / 2
        if sum(ratio**power for power in range(steps)) > reach:
            high = ratio
        else:
            low = ratio
    positive = np.cumsum([ratio**power for power in range(steps)])
    return np.concatenate([-positive[::-1], [0.0], positive])
