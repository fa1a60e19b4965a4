"""Normalisation of stored images to the input of a network, used by every network."""

from collections.abc import Sequence

import torch
from torch import Tensor

WHITE = 255.0
"""Grey level of blank paper."""


def normalise(images: Tensor, *, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """(B, H, W) uint8 -> (B, 3, H, W) float32: grey to three channels, to [0, 1], then (x - mean) / std.

    mean, std: one value per channel.
    """
    mean, std = (torch.as_tensor(values, device=images.device)[:, None, None] for values in (mean, std))
    grey = images[:, None].to(torch.float32) / 255
    return (grey - mean).div_(std)
