import io

import numpy as np
import pytest
from PIL import Image

from ecg_pipeline.images.preview import contact_sheet

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 20, 30), dtype=np.uint8)


def opened(png):
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)))


def test_a_contact_sheet_shows_all_images_in_reading_order():
    page = opened(contact_sheet(IMAGES, columns=3))
    assert page.shape == (2 * 20 + 4, 3 * 30 + 2 * 4)
    assert np.array_equal(page[24:44, 34:64], IMAGES[4])
    assert (page[24:, 68:] == 128).all()


def test_few_images_make_a_narrow_page():
    assert opened(contact_sheet(IMAGES[:2], columns=9)).shape == (20, 64)


def test_no_image_is_an_error():
    with pytest.raises(ValueError, match="contact sheet"):
        contact_sheet(IMAGES[:0], columns=3)
