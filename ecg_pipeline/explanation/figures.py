"""Figures of attribution maps over ECGs, with the models side by side as in the paper's Figure 5."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from ecg_pipeline.explanation.surfaces import Sheet, Surface
from ecg_pipeline.figure_style import STYLE
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.storage.files import write_atomically

BLUR_PX, BLUR_SHARE = 2.0, 2 / 224
"""Gaussian blur of the maps in pictures, about what the eye resolves; measured shares are not blurred. Maps of waveform
windows are blurred in time only, by a share of their length."""

DARKEST = 0.75
"""End of the colour map that is used, so that the trace stays darker than the map, also in print."""

INK, BRIGHTEST = 40, 99.5
"""Grey level of full ink; percentile of a map that is plotted at full strength."""

BAR = (2 / 224, 6 / 224)
WINDOW_COLOURS = {"qrs": (0, 0, 0), "st": (213, 94, 0), "t": (0, 114, 178)}
"""Heights of the bars that show the windows, and their colours: Okabe and Ito's vermilion and blue."""

HIGHEST = 99.0
"""Percentile of a window's values that takes half the height of a lead; what is higher runs into the next lead."""

MARKED = 2
"""Number of leads that are framed and labelled."""

PANEL_IN, GAP_IN, TITLE_IN, DPI = 2.4, 0.65, 0.25, 130

COLOURS = 256
"""Colours of a picture. A page holds dozens of pictures, and all their colours would make it four times as large."""


@dataclass(frozen=True, eq=False)
class Explained:
    """One model's explanation of one ECG.

    example: what the model reads, (H, W) uint8 or (L, T). fullgrad: a map of its shape. second: the strength of the
    second view in [0, 1], of its shape or one row for all leads, and its title; None without attention. covers: by
    window, its share of each column of the map. lead_shares: share of the FullGrad map's magnitude by lead.
    """

    model: str
    score: float
    surface: Surface
    example: NDArray
    fullgrad: NDArray[np.float64]
    second: tuple[NDArray[np.floating], str] | None
    covers: Mapping[str, NDArray[np.float64]]
    lead_shares: Mapping[str, float | None]


def colours(strength: NDArray[np.floating]) -> NDArray[np.floating]:
    """Colours (..., 3) in [0, 1] of strengths (...) in [0, 1].

    From white over yellow to brown with falling lightness, so that it is readable in grey and for colour-blind people.
    """
    colour = mpl.colormaps["YlOrBr"](DARKEST * strength)[..., :3]
    # The colour map starts at pale yellow; strength 0 must be white.
    return 1 - np.minimum(4 * strength, 1)[..., None] * (1 - colour)


def overlay(image: NDArray[np.uint8], *, strength: NDArray[np.floating]) -> NDArray[np.uint8]:
    """An ECG image (H, W) coloured by a strength (H, W) in [0, 1]: (H, W, 3) uint8."""
    trace = INK + (255 - INK) * (image / 255)
    return np.round(colours(strength) * trace[..., None]).astype(np.uint8)


def attribution_strength(attribution: NDArray[np.floating], surface: Surface) -> NDArray[np.floating]:
    """Strength of an attribution map: its blurred magnitude over the `BRIGHTEST` percentile, clipped to 1."""
    magnitude = gaussian_filter(np.abs(attribution), _blur(surface))
    return np.clip(magnitude / (np.percentile(magnitude, BRIGHTEST) or 1), 0, 1)


def rollout_strength(rolled: NDArray[np.floating], surface: Surface) -> NDArray[np.floating]:
    """Strength of an attention rollout: 0 up to the mean, 1 from twice the mean on."""
    return np.clip(gaussian_filter(rolled / rolled.mean(), _blur(surface)) - 1, 0, 1)


def _blur(surface: Surface) -> tuple[float, float]:
    """Standard deviation of the blur along each axis of a map."""
    return (BLUR_PX, BLUR_PX) if isinstance(surface, Sheet) else (0, BLUR_SHARE * surface.shape[1])


def write_page(explained: Sequence[Explained], path: Path, *, sheet: SheetRecipe) -> None:
    """Write explanations side by side, as PNG: FullGrad above, the second view below if any of them has one.

    sheet: whose form all panels have. Windows are plotted as bars along the top.
    """
    rows = 2 if any(one.second is not None for one in explained) else 1
    pitch_in, height_in = PANEL_IN + GAP_IN, PANEL_IN * sheet.height_px / sheet.width_px
    width_in, total_in = pitch_in * len(explained) + 0.1, (height_in + TITLE_IN) * rows + 0.05
    with mpl.rc_context({**STYLE, "axes.grid": False}):
        figure = Figure(figsize=(width_in, total_in), dpi=DPI)
        for place, one in enumerate(explained):
            title = f"{one.model}, score {one.score:.2f}, {one.surface.seconds:g} s"
            views = [(attribution_strength(one.fullgrad, one.surface), title)]
            views += [one.second] if one.second is not None else []
            for row, (strength, title) in enumerate(views):
                left, bottom = 0.3 + place * pitch_in, total_in - (row + 1) * (height_in + TITLE_IN)
                axes = figure.add_axes((left / width_in, bottom / total_in, PANEL_IN / width_in, height_in / total_in))
                _panel(axes, one, strength)
                axes.set_title(title, loc="left", fontsize=8)
                if row == 0:
                    _frame_leads(axes, one)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    drawn = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    picture = drawn.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    write_atomically(path, lambda temporary: picture.save(temporary, format="PNG"))


def _panel(axes: Axes, one: Explained, strength: NDArray[np.floating]) -> None:
    """Plot an ECG and a strength. The panel reaches from 0 to 1 both ways, downwards."""
    if isinstance(one.surface, Sheet):
        picture = overlay(one.example, strength=strength)
        axes.imshow(picture, interpolation="nearest", extent=(0, 1, 1, 0), aspect="auto")
    else:
        _plot_traces(axes, one, strength)
    for name, cover in one.covers.items():
        bar = np.zeros((1, len(cover), 4))
        bar[0, cover >= 0.5] = (*(np.array(WINDOW_COLOURS[name]) / 255), 1)
        axes.imshow(bar, interpolation="nearest", extent=(0, 1, BAR[1], BAR[0]), aspect="auto", zorder=3)
    axes.set(xlim=(0, 1), ylim=(1, 0), xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, color="#999999", linewidth=0.6)
    for box in one.surface.boxes():
        at_edge = box.left == 0
        axes.text(
            -0.013 if at_edge else box.left + 0.009,
            box.top + box.height / 2,
            box.lead,
            ha="right" if at_edge else "left",
            va="center",
            fontsize=6.5,
        )


def _plot_traces(axes: Axes, one: Explained, strength: NDArray[np.floating]) -> None:
    """Plot the leads of a window, each about its median, all at one scale, over a strength (L, T) or (1, T)."""
    boxes = one.surface.boxes()
    bottom = boxes[-1].top + boxes[-1].height
    axes.imshow(colours(strength), interpolation="antialiased", extent=(0, 1, bottom, boxes[0].top), aspect="auto")
    x = one.example - np.median(one.example, axis=1, keepdims=True)
    half = np.percentile(np.abs(x), HIGHEST) or 1
    time = (np.arange(x.shape[1]) + 0.5) / x.shape[1]
    for box, lead in zip(boxes, x, strict=True):
        heights = box.top + box.height / 2 * (1 - lead / half)
        axes.plot(time, heights, color=f"#{INK:02x}{INK:02x}{INK:02x}", linewidth=0.6)


def _frame_leads(axes: Axes, one: Explained) -> None:
    """Frame and label the `MARKED` leads with the largest shares."""
    known = {lead: value for lead, value in one.lead_shares.items() if value is not None}
    largest = sorted(known, key=lambda lead: -known[lead])[:MARKED]
    for box in one.surface.boxes():
        if box.lead in largest:
            corner, inner = (box.left + 0.002, box.top), box.width - 0.004
            frame = Rectangle(corner, inner, box.height, fill=False, edgecolor="#0072B2", linewidth=0.9, zorder=2.5)
            axes.add_patch(frame)
            label, middle = f"{box.lead}\n{known[box.lead]:.0%}", box.top + box.height / 2
            axes.text(box.left + box.width + 0.013, middle, label, fontsize=6.5, va="center", linespacing=0.95)
