"""Maps laid over ECG sheets, and the models side by side for one ECG as in the paper's Figure 5."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ecg_pipeline.figure_style import STYLE
from ecg_pipeline.images.layout import SheetRecipe

BLUR_PX = 2.0
"""What the eye takes in at once; only pictures are blurred, never what is counted."""

DARKEST = 0.75
"""How far into the colour map the largest values go: the trace stays darker, in print too."""

INK, BRIGHTEST = 40, 99.5
"""Grey of a full stroke; percentile of a map that is drawn as its maximum."""

BAR_PX = (2, 6)
WINDOW_COLOURS = {"qrs": (0, 0, 0), "st": (213, 94, 0), "t": (0, 114, 178)}
"""Rows of the bars that show the windows, and their colours: Okabe and Ito's vermilion and blue."""

MARKED = 2
PANEL_IN, GAP_IN, TITLE_IN, DPI = 2.4, 0.65, 0.25, 130


@dataclass(frozen=True, eq=False)
class Explained:
    """What one model says of one ECG. fullgrad and rollout: (H, W), the latter of transformers alone."""

    model: str
    score: float
    fullgrad: NDArray[np.float64]
    rollout: NDArray[np.float64] | None
    lead_shares: Mapping[str, float | None]


def overlay(sheet: NDArray[np.uint8], strength: NDArray[np.floating]) -> NDArray[np.uint8]:
    """A sheet (H, W) with a strength (H, W) from 0 to 1 as colour -> (H, W, 3).

    White over yellow to brown, whose lightness falls throughout: it reads the same in grey print and to colour-blind
    eyes.
    """
    colour = mpl.colormaps["YlOrBr"](DARKEST * strength)[..., :3]
    # The colour map's own zero is a pale yellow.
    colour = 1 - np.minimum(4 * strength, 1)[..., None] * (1 - colour)
    trace = INK + (255 - INK) * (sheet / 255)
    return np.round(colour * trace[..., None]).astype(np.uint8)


def overlay_png(sheet: NDArray[np.uint8], strength: NDArray[np.floating], scale: int = 2) -> bytes:
    """`overlay` as PNG, each pixel a square of `scale` pixels."""
    image, buffer = Image.fromarray(overlay(sheet, strength)), io.BytesIO()
    image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()


def attribution_strength(attribution: NDArray[np.floating]) -> NDArray[np.floating]:
    """An attribution (H, W) as strength: its magnitude, against what all but the brightest pixels stay below."""
    magnitude = gaussian_filter(np.abs(attribution), BLUR_PX)
    return np.clip(magnitude / (np.percentile(magnitude, BRIGHTEST) or 1), 0, 1)


def rollout_strength(rolled: NDArray[np.floating]) -> NDArray[np.floating]:
    """A rollout (H, W) as strength: what is above the even share, 1 at twice that. Even attention shows nothing."""
    return np.clip(gaussian_filter(rolled / rolled.mean(), BLUR_PX) - 1, 0, 1)


def page_figure(
    sheet: NDArray[np.uint8],
    explained: Sequence[Explained],
    covers: Mapping[str, NDArray[np.float64]],
    recipe: SheetRecipe,
) -> bytes:
    """The models beside each other for one ECG, as PNG: FullGrad above, attention rollout below where there is any.

    covers: (W,) what part of a column lies in each window, drawn as bars along the top.
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
                _panel(axes, overlay(sheet, strength), covers, recipe)
                axes.set_title(_title(one, row), loc="left", fontsize=8)
                if row == 0:
                    _mark(axes, one.lead_shares, recipe)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _title(one: Explained, row: int) -> str:
    if row == 0 or one.rollout is None:
        return f"{one.model}, score {one.score:.2f}"
    return f"attention rollout, at most {one.rollout.max() / one.rollout.mean():.2f} of even"


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


def _mark(axes, shares: Mapping[str, float | None], recipe: SheetRecipe) -> None:
    """Frame the leads with the largest shares and name them."""
    known = {lead: value for lead, value in shares.items() if value is not None}
    best = sorted(known, key=lambda lead: -known[lead])[:MARKED]
    height = recipe.cell_px[0]
    for cell in recipe.cells():
        if cell.lead in best:
            corner = (cell.left_px + 0.5, cell.baseline_px - height / 2)
            axes.add_patch(Rectangle(corner, cell.width_px - 1, height, fill=False, edgecolor="#0072B2", linewidth=0.9))
            right = cell.left_px + cell.width_px
            axes.text(right + 3, cell.baseline_px, f"{cell.lead}\n{known[cell.lead]:.0%}", fontsize=6.5, va="center")
