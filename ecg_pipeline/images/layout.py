"""Where each lead stands on the sheet and how many pixels a millivolt has.

The paper says only that eight leads are plotted in one image and that images are 224 x 224 (Preprocessing, Masked
Image Modeling). So the sheet is square, which makes every later resize keep its proportions, and its scale is fixed:
a millivolt and a second have the same size on every sheet, or else voltages and intervals could not be compared. A
trace that is taller than its cell runs into the neighbouring cell, as it does on paper; the sheet's edge alone clips.

The default, eight rows in one column, was chosen on validation patients (docs/decisions/005-sheet-layout.md): a pixel
column is 22 ms, so that QRS width and ST shape come out better than on two columns, at 12 px/mV.
"""

from dataclasses import dataclass

from ecg_pipeline.ecg import INDEPENDENT_LEADS, RecipeError


@dataclass(frozen=True)
class Cell:
    """The place of one lead: pixel columns left_px to left_px + width_px, zero millivolts at height baseline_px.

    Heights are measured from the sheet's upper edge, downwards; pixel row r covers heights r to r + 1.
    """

    lead: str
    left_px: int
    width_px: int
    baseline_px: float


@dataclass(frozen=True)
class SheetRecipe:
    """Geometry of a sheet: rows x columns cells of equal size, the eight leads filled in column by column.

    margin_px: free height above the first and below the last row of cells, for waves that leave them.
    span_mv: millivolts that one cell's height stands for.
    stroke_px: thickness of the trace.
    """

    rows: int = 8
    columns: int = 1
    height_px: int = 224
    width_px: int = 224
    margin_px: int = 16
    span_mv: float = 2.0
    stroke_px: float = 1.5

    def __post_init__(self) -> None:
        if self.rows < 1 or self.columns < 1 or self.rows * self.columns != len(INDEPENDENT_LEADS):
            sentence = f"{self.rows} x {self.columns} cells do not hold {len(INDEPENDENT_LEADS)} leads"
            raise RecipeError(sentence, "rows", "columns")
        height_px = self.height_px - 2 * self.margin_px
        whole = height_px % self.rows == 0 and self.width_px % self.columns == 0
        if not whole or self.margin_px < 0 or min(height_px, self.width_px) < 1:
            raise RecipeError(
                f"a sheet of {self.height_px} x {self.width_px} px with margins of {self.margin_px} px does not divide "
                f"into {self.rows} x {self.columns} cells of whole pixels",
                "margin_px",
                "height_px",
                "width_px",
                "rows",
                "columns",
            )
        if not (self.span_mv > 0 and self.stroke_px > 0):
            key = "stroke_px" if self.span_mv > 0 else "span_mv"
            raise RecipeError(f"span {self.span_mv} mV and stroke {self.stroke_px} px must be positive", key)

    @property
    def cell_px(self) -> tuple[int, int]:
        """Height and width of one cell."""
        return (self.height_px - 2 * self.margin_px) // self.rows, self.width_px // self.columns

    @property
    def px_per_mv(self) -> float:
        """Vertical scale."""
        return self.cell_px[0] / self.span_mv

    def cells(self) -> tuple[Cell, ...]:
        """One cell a lead, in the order of `ecg.INDEPENDENT_LEADS`; the baseline is the middle of the cell."""
        height_px, width_px = self.cell_px
        return tuple(
            Cell(
                lead,
                left_px=place // self.rows * width_px,
                width_px=width_px,
                baseline_px=self.margin_px + (place % self.rows + 0.5) * height_px,
            )
            for place, lead in enumerate(INDEPENDENT_LEADS)
        )
