"""Figures of attribution maps over ECG images, with the models side by side as in the paper's Figure 5."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ecg_pipeline.figure_style import STYLE
from ecg_pipeline.images.layout import SheetRecipe

BLUR_PX = 2.0
"""Gaussian blur of the maps in pictures, about what the eye resolves; measured shares are not blurred."""

DARKEST = 0.75
"""End of the colour map that is used, so that the trace stays darker than the map, also in print."""

INK, BRIGHTEST = 40, 99.5
"""Grey level of full ink; percentile of a map that is plotted at full strength."""

BAR_PX = (2, 6)
WINDOW_COLOURS = {"qrs": (0, 0, 0), "st": (213, 94, 0), "t": (0, 114, 178)}
"""Rows of the bars that show the windows, and their colours: Okabe and Ito's vermilion and blue."""

MARKED = 2
"""Number of leads that are framed and labelled."""

PANEL_IN, GAP_IN, TITLE_IN, DPI = 2.4, 0.65, 0.25, 130


@dataclass(frozen=True, eq=False)
class Explained:
    """One model's explanation of one ECG. fullgrad, rollout: maps (H, W); rollout is None without attention.

    lead_shares: share of the FullGrad map's magnitude by lead.
    """

    model: str
    score: float
    fullgrad: NDArray[np.float64]
    rollout: NDArray[np.float64] | None
    lead_shares: Mapping[str, float | None]


def overlay(image: NDArray[np.uint8], *, strength: NDArray[np.floating]) -> NDArray[np.uint8]:
    """An ECG image (H, W) coloured by a strength (H, W) in [0, 1]: (H, W, 3) uint8.

    From white over yellow to brown with falling lightness, so that it is readable in grey and for colour-blind people.
    """
    colour = mpl.colormaps["YlOrBr"](DARKEST * strength)[..., :3]
    # The colour map starts at pale yellow; strength 0 must be white.
    colour = 1 - np.minimum(4 * strength, 1)[..., None] * (1 - colour)
    trace = INK + (255 - INK) * (image / 255)
    return np.round(colour * trace[..., None]).astype(np.uint8)


def attribution_strength(attribution: NDArray[np.floating]) -> NDArray[np.floating]:
    """Strength of an attribution map (H, W): its blurred magnitude over the `BRIGHTEST` percentile, clipped to 1."""
    magnitude = gaussian_filter(np.abs(attribution), BLUR_PX)
    return np.clip(magnitude / (np.percentile(magnitude, BRIGHTEST) or 1), 0, 1)


def rollout_strength(rolled: NDArray[np.floating]) -> NDArray[np.floating]:
    """Strength of an attention rollout (H, W): 0 up to the mean, 1 from twice the mean on."""
    return np.clip(gaussian_filter(rolled / rolled.mean(), BLUR_PX) - 1, 0, 1)


def page_figure(
    image: NDArray[np.uint8],
    explained: Sequence[Explained],
    *,
    covers: Mapping[str, NDArray[np.float64]],
    recipe: SheetRecipe,
) -> bytes:
    """The models side by side for one ECG, as PNG: FullGrad above, attention rollout below if any model has it.

    covers: by window, its share of each pixel column (W,), plotted as bars along the top.
    """
    rows = 2 if any(one.rollout is not None for one in explained) else 1
    pitch_in, height_in = PANEL_IN + GAP_IN, PANEL_IN * recipe.height_px / recipe.width_px
    width_in, total_in = pitch_in * len(explained) + 0.1, (height_in + TITLE_IN) * rows + 0.05
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width_in, total_in), dpi=DPI)
        for place, one in enumerate(explained):
            strengths = [attribution_strength(one.fullgrad)]
            strengths += [rollout_strength(one.rollout)] if one.rollout is not None else []
            for row, strength in enumerate(strengths):
                left, bottom = 0.3 + place * pitch_in, total_in - (row + 1) * (height_in + TITLE_IN)
                axes = figure.add_axes((left / width_in, bottom / total_in, PANEL_IN / width_in, height_in / total_in))
                _panel(axes, overlay(image, strength=strength), covers, recipe)
                axes.set_title(_title(one, row), loc="left", fontsize=8)
                if row == 0:
                    _frame_leads(axes, one.lead_shares, recipe)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _title(one: Explained, row: int) -> str:
    if row == 0 or one.rollout is None:
        return f"{one.model}, score {one.score:.2f}"
    return f"attention rollout, maximum {one.rollout.max() / one.rollout.mean():.2f} x mean"


def _panel(axes, picture: NDArray[np.uint8], covers: Mapping[str, NDArray[np.float64]], recipe: SheetRecipe) -> None:
    picture = picture.copy()
    for name, cover in covers.items():
        picture[slice(*BAR_PX), cover >= 0.5] = WINDOW_COLOURS[name]
    axes.imshow(picture, interpolation="nearest", extent=(0, recipe.width_px, recipe.height_px, 0))
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, color="#999999", linewidth=0.6)
    for cell in recipe.cells():
        at_edge = cell.left_px == 0
        axes.text(
            -3 if at_edge else cell.left_px + 2,
            cell.baseline_px,
            cell.lead,
            ha="right" if at_edge else "left",
            va="center",
            fontsize=6.5,
        )


def _frame_leads(axes, shares: Mapping[str, float | None], recipe: SheetRecipe) -> None:
    """Frame and label the `MARKED` leads with the largest shares."""
    known = {lead: value for lead, value in shares.items() if value is not None}
    largest = sorted(known, key=lambda lead: -known[lead])[:MARKED]
    height = recipe.cell_px[0]
    for cell in recipe.cells():
        if cell.lead in largest:
            corner = (cell.left_px + 0.5, cell.baseline_px - height / 2)
            axes.add_patch(Rectangle(corner, cell.width_px - 1, height, fill=False, edgecolor="#0072B2", linewidth=0.9))
            right = cell.left_px + cell.width_px
            axes.text(right + 3, cell.baseline_px, f"{cell.lead}\n{known[cell.lead]:.0%}", fontsize=6.5, va="center")
