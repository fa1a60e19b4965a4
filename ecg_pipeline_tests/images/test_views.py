import numpy as np
import pytest
from PIL import Image

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.images.views import patch_view, token_view


def test_a_sheet_of_the_right_size_is_its_own_patch_view(filtered_mv):
    sheets = render_many(filtered_mv, SheetRecipe())
    view = patch_view(sheets)
    assert view.dtype == np.float32
    assert np.allclose((view + 1) / 2 * 255, sheets, atol=1e-4)


def test_the_token_view_of_real_sheets_is_pillows(filtered_mv):
    sheets = render_many(filtered_mv, SheetRecipe())
    view = token_view(sheets)
    assert view.shape == (16, 112, 112)
    assert view.dtype == np.float32
    for sheet, seen in zip(sheets, view, strict=True):
        expected = np.asarray(Image.fromarray(sheet).resize((112, 112), Image.Resampling.LANCZOS))
        assert np.array_equal(np.round(seen * 255), expected)


def test_white_paper_stays_white():
    paper = np.full((2, 224, 224), 255, np.uint8)
    assert (patch_view(paper) == 1).all()
    assert (token_view(paper) == 1).all()


@pytest.mark.parametrize("sheets", [np.zeros((224, 224), np.uint8), np.zeros((1, 224, 224), np.float32)])
def test_what_is_no_sheet_is_an_error(sheets):
    with pytest.raises(ValueError, match="sheets are"):
        token_view(sheets)
