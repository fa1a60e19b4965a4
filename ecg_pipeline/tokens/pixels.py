"""The input of a tokenizer: images at half size (BEiT's second view of an image), and DALL-E's mapping of pixel values.

A tokenizer has its own normalisation: grey in [0, 1], which DALL-E's encoder maps to [0.1, 0.9].
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

SIDE_PX = 112
EPS = 0.1


def token_view(images: NDArray[np.uint8], size_px: int = SIDE_PX) -> NDArray[np.float32]:
    """(N, H, W) uint8 -> (N, size, size) in [0, 1], resized by Lanczos as BEiT's loader does."""
    return resize(images, size_px, Image.Resampling.LANCZOS)


def resize(images: NDArray[np.uint8], size_px: int, method: Image.Resampling) -> NDArray[np.float32]:
    """(N, H, W) uint8 -> (N, size, size) in [0, 1]; Pillow rounds to whole grey levels. A wrong shape or dtype is a
    ValueError."""
    if images.ndim != 3 or images.dtype != np.uint8:
        raise ValueError(f"images are (N, H, W) uint8, not {images.shape} {images.dtype}")
    resized = np.empty((len(images), size_px, size_px), np.float32)
    for image, target in zip(images, resized, strict=True):
        target[:] = np.asarray(Image.fromarray(image).resize((size_px, size_px), method))
    return resized / np.float32(255)


def map_pixels(x: Tensor) -> Tensor:
    """DALL-E's mapping [0, 1] -> [0.1, 0.9], so that a logit is finite: 0.8 x + 0.1."""
    return (1 - 2 * EPS) * x + EPS
