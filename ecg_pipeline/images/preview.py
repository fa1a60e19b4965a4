"""ECG images as PNG files, for people."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP_PX = 4
"""Grey gap between the images of a contact sheet."""


def contact_sheet(images: NDArray[np.uint8], columns: int) -> bytes:
    """Images (N, H, W) uint8 in rows of `columns`, as one PNG. No image, or no column, is a ValueError."""
    if len(images) == 0 or columns < 1:
        raise ValueError(f"a contact sheet needs an image and a column, not {len(images)} and {columns}")
    _, height, width = images.shape
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    page = Image.new("L", (columns * (width + GAP_PX) - GAP_PX, rows * (height + GAP_PX) - GAP_PX), 128)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        page.paste(Image.fromarray(image), (column * (width + GAP_PX), row * (height + GAP_PX)))
    return _png(page)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
