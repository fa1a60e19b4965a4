"""Where leads lie on a map, and which of its columns a window covers."""

from itertools import pairwise

import numpy as np
import pytest

from ecg_pipeline.explanation.surfaces import Sheet, Traces, share, window_masks
from ecg_pipeline.images.layout import SheetRecipe

SHEETS = [Sheet(SheetRecipe(), seconds=5), Sheet(SheetRecipe(rows=4, columns=2), seconds=5)]
TRACES = Traces(("I", "aVR", "V6"), samples=1000, sampling_hz=250)


@pytest.mark.parametrize("sheet", SHEETS)
def test_leads_have_cells_of_one_size_each_their_own(sheet):
    masks, recipe = sheet.lead_masks(), sheet.recipe
    assert list(masks) == [cell.lead for cell in recipe.cells()]
    assert sum(mask.astype(int) for mask in masks.values()).max() == 1
    assert {mask.sum() for mask in masks.values()} == {recipe.cell_px[0] * recipe.cell_px[1]}
    for cell in recipe.cells():
        assert masks[cell.lead][int(cell.baseline_px), cell.left_px]


@pytest.mark.parametrize("surface", [*SHEETS, TRACES])
def test_a_lead_is_plotted_within_the_picture_and_not_over_another(surface):
    boxes = surface.boxes()
    assert [box.lead for box in boxes] == list(surface.lead_masks())
    assert all(box.left >= 0 and box.top > 0 for box in boxes)
    assert all(box.left + box.width <= 1 + 1e-12 and box.top + box.height < 1 for box in boxes)
    for box, below in pairwise(boxes):
        assert box.left < below.left or box.top + box.height == pytest.approx(below.top)


def test_the_leads_of_a_window_share_it_out():
    masks = TRACES.lead_masks()
    assert list(masks) == ["I", "aVR", "V6"]
    assert {mask.shape for mask in masks.values()} == {(3, 1000)} == {TRACES.shape}
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    assert masks["aVR"][1].all()
    assert TRACES.seconds == 4


@pytest.mark.parametrize("sheet", SHEETS)
def test_columns_cover_the_time_that_a_window_takes(sheet):
    window = np.zeros(2500, bool)
    window[1000:1250] = True
    cover, width_px = sheet.column_cover(window), sheet.recipe.cell_px[1]
    assert cover.shape == (224,)
    assert cover.mean() == pytest.approx(0.1)
    assert np.flatnonzero(cover[:width_px])[0] == int(0.4 * width_px)


@pytest.mark.parametrize("samples", [400, 1000, 2000, 3001])
def test_samples_are_covered_whatever_the_rate_of_the_delineation(samples):
    window = np.zeros(samples, bool)
    window[: samples // 4] = True
    cover = TRACES.column_cover(window)
    assert cover.shape == (1000,)
    assert cover.sum() == pytest.approx(1000 * window.mean())
    assert cover[: 250 - 1].min() == pytest.approx(1)
    assert cover[250 + 1 :].max() == pytest.approx(0)


@pytest.mark.parametrize("surface", [*SHEETS, TRACES])
def test_an_even_map_has_the_share_of_the_area(surface):
    windows = {name: np.zeros(2500, bool) for name in ("qrs", "st", "t")}
    windows["qrs"][:625] = True
    masks = window_masks(windows, surface)
    np.testing.assert_allclose(sum(masks.values()), 1)
    assert share(np.ones(surface.shape), mask=masks["qrs"]) == pytest.approx(0.25) == masks["qrs"].mean()
    assert share(np.zeros(surface.shape), mask=masks["qrs"]) is None


def test_nothing_delineated_has_no_masks():
    assert window_masks(None, TRACES) == {}
