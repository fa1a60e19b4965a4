"""What a map lies on: the sheet of an image, or the leads and samples of a waveform window.

Both say where on the map a lead lies, and which of its columns a window of time covers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.explanation.delineation import WINDOWS
from ecg_pipeline.explanation.results import DERIVED_LEADS, LATER_SECONDS, ON_SHEET, REST
from ecg_pipeline.images.layout import SheetRecipe

MARGIN = 1 / 14
"""Free height above and below the leads of a plotted waveform window, as on the default sheet."""


@dataclass(frozen=True)
class Box:
    """The place of one lead in a picture, as fractions of its width and height from the upper left corner."""

    lead: str
    left: float
    top: float
    width: float
    height: float


class Surface(Protocol):
    """What a map lies on. seconds: the time that its width, or that of a column of leads, shows."""

    @property
    def seconds(self) -> float:
        """Time from its beginning to its end."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a map."""
        ...

    def lead_masks(self) -> dict[str, NDArray[np.bool_]]:
        """Where each lead lies on a map."""
        ...

    def column_cover(self, window: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of each column of a map that a window covers: (T,) bool over `seconds` -> (columns,)."""
        ...

    def ink(self, example: NDArray) -> NDArray[np.float64] | None:
        """Ink of each place of an example; None where an example has no ink."""
        ...

    def boxes(self) -> list[Box]:
        """Where each lead is plotted."""
        ...


@dataclass(frozen=True)
class Sheet:
    """An image with the layout of a recipe. The leads' cells have equal size and leave out the margins."""

    recipe: SheetRecipe
    seconds: float

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.recipe.height_px, self.recipe.width_px

    def lead_masks(self) -> dict[str, NDArray[np.bool_]]:
        """The cell of each lead as a mask (H, W)."""
        masks, half_px = {}, self.recipe.cell_px[0] / 2
        for cell in self.recipe.cells():
            masks[cell.lead] = np.zeros(self.shape, bool)
            rows = slice(round(cell.baseline_px - half_px), round(cell.baseline_px + half_px))
            masks[cell.lead][rows, cell.left_px : cell.left_px + cell.width_px] = True
        return masks

    def column_cover(self, window: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of each pixel column that a window covers: (T,) bool -> (W,). The T samples span a cell's width."""
        return np.tile(_cover(window, self.recipe.cell_px[1]), self.recipe.columns)

    def ink(self, example: NDArray) -> NDArray[np.float64]:
        """Darkness of each pixel (H, W), 0 = white paper."""
        return 255.0 - example

    def boxes(self) -> list[Box]:
        """The cell of each lead."""
        (height_px, _), (rows, columns) = self.recipe.cell_px, self.shape
        return [
            Box(
                cell.lead,
                left=cell.left_px / columns,
                top=(cell.baseline_px - height_px / 2) / rows,
                width=cell.width_px / columns,
                height=height_px / rows,
            )
            for cell in self.recipe.cells()
        ]


@dataclass(frozen=True)
class Traces:
    """A waveform window (L, T), its leads in their order. Together the leads cover the whole map."""

    leads: tuple[str, ...]
    samples: int
    sampling_hz: int

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.samples / self.sampling_hz

    @property
    def shape(self) -> tuple[int, int]:
        """Leads and samples."""
        return len(self.leads), self.samples

    def lead_masks(self) -> dict[str, NDArray[np.bool_]]:
        """The row of each lead as a mask (L, T)."""
        rows = np.eye(len(self.leads), dtype=bool)[..., None]
        return {lead: np.tile(row, self.samples) for lead, row in zip(self.leads, rows, strict=True)}

    def column_cover(self, window: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of each sample that a window covers, whatever the rate of its own samples: (T',) bool -> (T,)."""
        return _cover(window, self.samples)

    def ink(self, example: NDArray) -> None:
        """None: a waveform has no ink."""

    def boxes(self) -> list[Box]:
        """One row a lead, of equal height."""
        height = (1 - 2 * MARGIN) / len(self.leads)
        return [Box(lead, 0, MARGIN + row * height, 1, height) for row, lead in enumerate(self.leads)]


def window_masks(windows: Mapping[str, NDArray[np.bool_]] | None, surface: Surface) -> dict[str, NDArray[np.float64]]:
    """For each of `WINDOWS` and `REST` its share of every column, as masks of a map's shape. Empty for None."""
    if windows is None:
        return {}
    covers = {name: surface.column_cover(windows[name]) for name in WINDOWS}
    covers[REST] = 1 - np.sum(list(covers.values()), axis=0)
    return {name: np.tile(cover, (surface.shape[0], 1)) for name, cover in covers.items()}


def sheet_masks(surface: Surface, sheet: Sheet) -> dict[str, NDArray[np.bool_]]:
    """What a sheet shows of a waveform map, its leads that the sheet lacks, and what comes after the sheet's seconds.

    Together they cover the map. Empty for a map on a sheet.
    """
    if isinstance(surface, Sheet):
        return {}
    on_sheet = sheet.lead_masks()
    leads = np.array([lead in on_sheet for lead in surface.lead_masks()])[:, None]
    columns = surface.shape[1]
    early = (np.arange(columns) < round(sheet.seconds / surface.seconds * columns))[None]
    return {ON_SHEET: leads & early, DERIVED_LEADS: np.tile(~leads, columns), LATER_SECONDS: leads & ~early}


def share(magnitude: NDArray[np.floating], *, mask: NDArray) -> float | None:
    """Share of a magnitude that lies in a mask of its shape, of weights in [0, 1]; None if the magnitude is all 0."""
    total = magnitude.sum()
    return float((magnitude * mask).sum() / total) if total > 0 else None


def _cover(window: NDArray[np.bool_], columns: int) -> NDArray[np.float64]:
    """(T,) bool -> (columns,): share of each column that is covered, where both span the same time."""
    summed = np.concatenate([[0], np.cumsum(window)])
    edges = np.linspace(0, len(window), columns + 1)
    return np.diff(np.interp(edges, np.arange(len(summed)), summed)) * columns / len(window)
