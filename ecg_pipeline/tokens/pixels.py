"""What a tokenizer sees: the token view of a sheet, and DALL-E's mapping of pixel values."""

from torch import Tensor

EPS = 0.1


def map_pixels(x: Tensor) -> Tensor:
    """[0, 1] -> [0.1, 0.9], where a logit is finite: 0.8 x + 0.1."""
    return (1 - 2 * EPS) * x + EPS


def unmap_pixels(x: Tensor) -> Tensor:
    """The inverse of `map_pixels`, clipped to [0, 1]."""
    return ((x - EPS) / (1 - 2 * EPS)).clamp(0, 1)
