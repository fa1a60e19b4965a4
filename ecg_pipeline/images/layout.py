"""The layout of an ECG on its image: the place of each lead, and the scale in pixels per millivolt.

The paper says only that eight leads are plotted in one image and that images are 224 x 224 (Preprocessing, Masked Image
Modeling). The scale is fixed: a millivolt and a second have the same size on every sheet, so that voltages and
intervals can be compared. A trace that is taller than its cell runs into the neighbouring cell, as on paper; only the
edge of the sheet clips.

The default, eight rows in one column, was chosen on validation patients (docs/decisions/005-sheet-layout.md). A pixel
column is 22 ms and a millivolt 12 px; QRS width and ST shape are rendered better than with two columns.
"""

from dataclasses import dataclass

from ecg_pipeline.ecg import INDEPENDENT_LEADS, RecipeError


@dataclass(frozen=True)
class Cell:
    """The place of one lead: pixel columns left_px to left_px + width_px, 0 mV at height baseline_px.

    Heights are measured downwards from the upper edge; pixel row r covers heights r to r + 1.
    """

    lead: str
    left_px: int
    width_px: int
    baseline_px: float


@dataclass(frozen=True)
class SheetRecipe:
    """Geometry of a sheet: rows x columns of equal cells, filled with the eight leads column by column.

    margin_px: free height above the first and below the last row of cells, for waves that exceed their cell.
    span_mv: millivolts over the height of a cell.
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
        """The cell of each lead, in the order of `ecg.INDEPENDENT_LEADS`, with the baseline in its middle."""
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
