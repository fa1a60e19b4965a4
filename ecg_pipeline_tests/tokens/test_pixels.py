import numpy as np
import pytest
from PIL import Image

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.tokens.pixels import token_view


def test_the_token_view_of_real_ecgs_is_pillows(filtered_mv):
    images = render_many(filtered_mv, SheetRecipe())
    view = token_view(images)
    assert view.shape == (16, 112, 112)
    assert view.dtype == np.float32
    for image, seen in zip(images, view, strict=True):
        expected = np.asarray(Image.fromarray(image).resize((112, 112), Image.Resampling.LANCZOS))
        assert np.array_equal(np.round(seen * 255), expected)


def test_white_paper_stays_white():
    paper = np.full((2, 224, 224), 255, np.uint8)
    assert (token_view(paper) == 1).all()


@pytest.mark.parametrize("images", [np.zeros((224, 224), np.uint8), np.zeros((1, 224, 224), np.float32)])
def test_a_wrong_shape_or_dtype_is_an_error(images):
    with pytest.raises(ValueError, match="images are"):
        token_view(images)
