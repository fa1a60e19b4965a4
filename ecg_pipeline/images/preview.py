"""Sheets as PNG, for people to look at."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP_PX = 4
"""Grey gap between the sheets of a contact sheet."""


def preview_png(sheet: NDArray[np.uint8], scale: int = 2) -> bytes:
    """One sheet (H, W) as PNG, each pixel a square of `scale` pixels, as the model sees it."""
    image = Image.fromarray(sheet)
    return _png(image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST))


def contact_sheet(sheets: NDArray[np.uint8], columns: int) -> bytes:
    """Sheets (N, H, W) side by side, `columns` in a row, as PNG. No sheet at all is a ValueError."""
    if len(sheets) == 0 or columns < 1:
        raise ValueError(f"a contact sheet needs a sheet and a column, not {len(sheets)} and {columns}")
    _, height, width = sheets.shape
    columns = min(columns, len(sheets))
    rows = -(-len(sheets) // columns)
    image = Image.new("L", (columns * (width + GAP_PX) - GAP_PX, rows * (height + GAP_PX) - GAP_PX), 128)
    for place, sheet in enumerate(sheets):
        row, column = divmod(place, columns)
        image.paste(Image.fromarray(sheet), (column * (width + GAP_PX), row * (height + GAP_PX)))
    return _png(image)


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()
