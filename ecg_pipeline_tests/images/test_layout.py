import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.images.layout import SheetRecipe


def test_leads_fill_the_sheet_column_by_column():
    cells = SheetRecipe(rows=4, columns=2).cells()
    assert tuple(cell.lead for cell in cells) == INDEPENDENT_LEADS
    assert [cell.left_px for cell in cells] == [0, 0, 0, 0, 112, 112, 112, 112]
    assert [cell.baseline_px for cell in cells] == [40, 88, 136, 184] * 2
    assert {cell.width_px for cell in cells} == {112}


def test_by_default_every_lead_has_the_whole_width_for_time():
    cells = SheetRecipe().cells()
    assert {(cell.left_px, cell.width_px) for cell in cells} == {(0, 224)}
    assert [cell.baseline_px for cell in cells] == [28 + 24 * row for row in range(8)]


@pytest.mark.parametrize(("rows", "columns"), [(1, 8), (2, 4), (4, 2), (8, 1)])
def test_the_scale_is_that_of_a_cell(rows, columns):
    recipe = SheetRecipe(rows=rows, columns=columns, span_mv=2.0)
    assert recipe.px_per_mv * recipe.span_mv * rows == pytest.approx(224 - 2 * 16)


@pytest.mark.parametrize(
    "impossible",
    [
        {"rows": 3},
        {"rows": -4, "columns": -2},
        {"height_px": 225},
        {"width_px": 0},
        {"margin_px": -16},
        {"margin_px": 112},
        {"span_mv": 0.0},
        {"span_mv": float("nan")},
        {"stroke_px": -1.0},
    ],
)
def test_impossible_sheets_are_refused(impossible):
    with pytest.raises(ValueError, match=r"px|cells"):
        SheetRecipe(**impossible)
