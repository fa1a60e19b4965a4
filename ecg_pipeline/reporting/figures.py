"""Figures of the reports, one function per figure: SVG text that needs nothing from outside the page.

Matplotlib is loaded when a figure is plotted, because orchestration imports this module to define its assets.
"""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from ecg_pipeline.figure_style import PALETTE, STYLE
from ecg_pipeline.metrics.counts import counts
from ecg_pipeline.metrics.discrimination import precision_recall_curve, roc_curve

AXIS_SHARE, ROW_SHARE, MARGIN_SHARE = 0.125, 0.055, 0.02
"""Shares of a figure's height: below the axes for their ticks and label, a row of title or legend, the edge."""

QUIET = "#999999"
"""Colour of reference lines: chance, treating all."""


def roc_figure(predictions: Mapping[str, pl.DataFrame], title: str) -> str:
    """ROC curves. predictions: by name, columns label, seed and score, both labels present; one curve a seed."""
    return _curves(predictions, title, "False positive rate", "True positive rate", roc_curve, diagonal=True)


def precision_recall_figure(predictions: Mapping[str, pl.DataFrame], title: str) -> str:
    """Precision-recall curves."""
    return _curves(predictions, title, "Recall", "Precision", precision_recall_curve, diagonal=False)


def calibration_figure(curves: Mapping[str, pl.DataFrame], title: str) -> str:
    """Observed against predicted risk with Wilson intervals.

    curves: by name, columns as in `EvaluationMetrics.calibration`.
    """
    figure, axes = _axes(title, "Mean score", "Share of positive ECGs")
    axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    for colour, (name, curve) in zip(PALETTE, curves.items(), strict=False):
        for (seed,), one in curve.group_by("seed", maintain_order=True):
            x, y = one["score"].to_numpy(), one["observed"].to_numpy()
            label = name if seed == curve["seed"].first() else None
            axes.errorbar(
                x,
                y,
                _spread(one, y),
                color=colour,
                marker="o",
                markersize=3,
                linewidth=1.1,
                elinewidth=0.7,
                label=label,
            )
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    return _with_legend(figure)


def decision_figure(curves: Mapping[str, pl.DataFrame], title: str) -> str:
    """Net benefit against the threshold.

    curves: by name, columns as in `EvaluationMetrics.decision`, of the same ECGs.
    """
    figure, axes = _axes(title, "Threshold probability", "Net benefit per ECG")
    first = next(iter(curves.values()))
    common = first.filter(seed=first["seed"].first())
    axes.plot(common["threshold"], common["treat_all"], color=QUIET, linewidth=1, linestyle="--", label="all positive")
    axes.axhline(0, color=QUIET, linewidth=0.8, label="none positive")
    for colour, (name, curve) in zip(PALETTE, curves.items(), strict=False):
        for (seed,), one in curve.group_by("seed", maintain_order=True):
            label = name if seed == curve["seed"].first() else None
            axes.plot(one["threshold"], one["model"], color=colour, linewidth=1.2, label=label)
    top = max(0.01, *(float(curve["model"].to_numpy().max()) for curve in curves.values()))
    axes.set_ylim(-0.3 * top, 1.15 * top)
    axes.set_xlim(0, 1)
    return _with_legend(figure)


def fraction_figure(rows: pl.DataFrame, metric: str, title: str) -> str:
    """A metric against the fraction of the training data, with 95 % intervals: one line per model.

    rows: columns model, fraction, value, low, high; rows without a value are left out.
    """
    figure, axes = _by_fraction(rows, metric, title)
    axes.set_ylim(None, max([1.02, *rows["high"].drop_nulls()]))
    return _with_legend(figure)


def difference_figure(rows: pl.DataFrame, metric: str, title: str) -> str:
    """One model minus every other, against the fraction of the training data, with 95 % intervals.

    rows: columns model (the other), fraction, value, low, high. Colours follow those of `fraction_figure`, whose first
    model is the one that the others are compared with.
    """
    figure, axes = _by_fraction(rows, f"{metric} difference", title, PALETTE[1:])
    axes.axhline(0, color=QUIET, linewidth=0.9)
    return _with_legend(figure)


def training_figure(trace: pl.DataFrame, columns: Sequence[str], title: str) -> str:
    """Curves of a training over its steps or epochs, or of a linear probe over C (the first column)."""
    figure, axes = _axes(title, trace.columns[0], columns[0] if len(columns) == 1 else "")
    for colour, column in zip(PALETTE, columns, strict=False):
        axes.plot(trace[trace.columns[0]], trace[column], color=colour, linewidth=1.4, label=column)
    if trace.columns[0] == "c":
        axes.set_xscale("log")
    return _with_legend(figure)


def _by_fraction(rows: pl.DataFrame, ylabel: str, title: str, palette: Sequence[str] = PALETTE):
    figure, axes = _axes(title, "Fraction of the training patients", ylabel)
    models = rows["model"].unique(maintain_order=True).to_list()
    for colour, model in zip(palette, models, strict=False):
        line = rows.filter(pl.col("model") == model).drop_nulls("value").sort("fraction")
        x, y = line["fraction"].to_numpy() * (1 + 0.02 * models.index(model)), line["value"].to_numpy()
        axes.errorbar(
            x, y, _spread(line, y), color=colour, marker="o", markersize=4, linewidth=1.5, capsize=2, label=model
        )
    axes.set_xscale("log")
    ticks = rows["fraction"].unique().sort().to_list()
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    return figure, axes


def _spread(rows: pl.DataFrame, y: Any) -> Any:
    """Lengths of the bars of intervals below and above their values."""
    return np.clip(np.stack([y - rows["low"].to_numpy(), rows["high"].to_numpy() - y]), 0, None)


def _curves(
    predictions: Mapping[str, pl.DataFrame], title: str, xlabel: str, ylabel: str, curve: Callable, diagonal: bool
) -> str:
    figure, axes = _axes(title, xlabel, ylabel)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=QUIET, linewidth=0.8, linestyle=":")
    for colour, (name, table) in zip(PALETTE, predictions.items(), strict=False):
        width = 1.6 if table["seed"].n_unique() == 1 else 0.9
        for (seed,), scored in table.group_by("seed", maintain_order=True):
            x, y = curve(counts(scored["label"].to_numpy(), scored["score"].to_numpy()))
            label = name if seed == table["seed"].first() else None
            axes.plot(x, y, color=colour, linewidth=width, label=label)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.03)
    axes.set_aspect("equal")
    return _with_legend(figure)


def _with_legend(figure: Any) -> str:
    """The figure as SVG, its legend below the axes, because no corner of a curve's figure is free in every study."""
    legend = figure.legend(
        loc="lower center", ncols=2, frameon=False, fontsize=9, handlelength=1.5, columnspacing=1.5, borderaxespad=0.2
    )
    rows = -(-len(legend.get_texts()) // 2)
    figure.subplots_adjust(bottom=AXIS_SHARE + ROW_SHARE * rows)
    return _svg(figure)


def _axes(title: str, xlabel: str, ylabel: str):
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        # A layout engine, which measures every text twice, would take longer than the drawing.
        figure = Figure(figsize=(4.2, 3.8))
        top = 1 - MARGIN_SHARE - ROW_SHARE * len(title.splitlines())
        axes = figure.subplots(gridspec_kw={"left": 0.18, "right": 0.97, "top": top})
    axes.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def _svg(figure: Any) -> str:
    """The figure as SVG text without date and random ids, so that equal data give equal bytes."""
    import matplotlib as mpl

    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
