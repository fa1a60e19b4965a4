"""The transformer's view of an image and the inverse of DALL-E's pixel mapping.

The pipeline needs neither: its images have the transformer's size, and it decodes no tokens.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ecg_pipeline.tokens.pixels import EPS, resize


def patch_view(images: NDArray[np.uint8], size_px: int) -> NDArray[np.float32]:
    """(N, H, W) uint8 -> (N, size, size) in [-1, 1], resized bicubically as BEiT's loader does."""
    return np.float32(2) * resize(images, size_px, Image.Resampling.BICUBIC) - np.float32(1)


def unmap_pixels(x: Tensor) -> Tensor:
    """The inverse of `map_pixels`, clipped to [0, 1]."""
    return ((x - EPS) / (1 - 2 * EPS)).clamp(0, 1)
