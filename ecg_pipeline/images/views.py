"""The two views that masked image modelling takes of one sheet (BEiT's two resizes; the paper's 224 x 224 input).

Both are resized from the sheet itself, never one from the other. A sheet is grey: a model that wants three channels
repeats the view. The token view stops at [0, 1], before the tokenizer's own `map_pixels`.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def patch_view(sheets: NDArray[np.uint8], size_px: int = 224) -> NDArray[np.float32]:
    """What the transformer sees: (N, H, W) sheets, bicubic -> (N, size, size) in [-1, 1]. A 224 px sheet is kept."""
    return np.float32(2) * _resized(sheets, size_px, Image.Resampling.BICUBIC) - np.float32(1)


def token_view(sheets: NDArray[np.uint8], size_px: int = 112) -> NDArray[np.float32]:
    """What the tokenizer sees: (N, H, W) sheets, Lanczos -> (N, size, size) in [0, 1]."""
    return _resized(sheets, size_px, Image.Resampling.LANCZOS)


def _resized(sheets: NDArray[np.uint8], size_px: int, method: Image.Resampling) -> NDArray[np.float32]:
    """(N, H, W) -> (N, size, size) in [0, 1]; whole grey levels, as Pillow rounds them."""
    if sheets.ndim != 3 or sheets.dtype != np.uint8:
        raise ValueError(f"sheets are (N, H, W) uint8, not {sheets.shape} {sheets.dtype}")
    resized = np.empty((len(sheets), size_px, size_px), np.float32)
    for sheet, target in zip(sheets, resized, strict=True):
        target[:] = np.asarray(Image.fromarray(sheet).resize((size_px, size_px), method))
    return resized / np.float32(255)
