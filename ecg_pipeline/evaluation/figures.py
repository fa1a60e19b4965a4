"""Figures of the reports, one function a figure: SVG text that needs nothing from outside the page."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
from matplotlib.figure import Figure

from ecg_pipeline.evaluation.metrics import precision_recall_curve, roc_curve

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours: told apart by colour-blind readers too."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "ecg_pipeline",
}


def roc_figure(predictions: Mapping[str, pl.DataFrame], title: str) -> str:
    """ROC curves. predictions: by name, columns label, seed and score, both labels present; one curve a seed."""
    return _curves(predictions, title, "False positive rate", "True positive rate", roc_curve, diagonal=True)


def precision_recall_figure(predictions: Mapping[str, pl.DataFrame], title: str) -> str:
    """Precision-recall curves."""
    return _curves(predictions, title, "Recall", "Precision", precision_recall_curve, diagonal=False)


def fraction_figure(rows: pl.DataFrame, metric: str, title: str) -> str:
    """A metric against the fraction of the training data, with 95 % intervals: one line a model.

    rows: columns model, fraction, value, low, high; rows without a value are left out.
    """
    figure, axes = _axes(title, "Fraction of the training patients", metric)
    models = rows["model"].unique(maintain_order=True).to_list()
    for colour, model in zip(PALETTE, models, strict=False):
        line = rows.filter(pl.col("model") == model).drop_nulls("value").sort("fraction")
        x = line["fraction"].to_numpy() * (1 + 0.02 * models.index(model))
        y = line["value"].to_numpy()
        spread = np.clip(np.stack([y - line["low"].to_numpy(), line["high"].to_numpy() - y]), 0, None)
        axes.errorbar(x, y, spread, color=colour, marker="o", markersize=4, linewidth=1.5, capsize=2, label=model)
    axes.set_xscale("log")
    ticks = rows["fraction"].unique().sort().to_list()
    axes.set_xticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(None, 1.02)
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure)


def training_figure(trace: pl.DataFrame, columns: Sequence[str], title: str) -> str:
    """Curves of a training over its steps or epochs (the first column)."""
    figure, axes = _axes(title, trace.columns[0], ", ".join(columns))
    for colour, column in zip(PALETTE, columns, strict=False):
        axes.plot(trace[trace.columns[0]], trace[column], color=colour, linewidth=1.4, label=column)
    axes.legend(frameon=False)
    return _svg(figure)


def _curves(predictions, title, xlabel, ylabel, curve, diagonal) -> str:
    figure, axes = _axes(title, xlabel, ylabel)
    if diagonal:
        axes.plot([0, 1], [0, 1], color="#999999", linewidth=0.8, linestyle=":")
    for colour, (name, table) in zip(PALETTE, predictions.items(), strict=False):
        width = 1.6 if table["seed"].n_unique() == 1 else 0.9
        for (seed,), scored in table.group_by("seed", maintain_order=True):
            x, y = curve(scored["label"].to_numpy(), scored["score"].to_numpy())
            label = name if seed == table["seed"].first() else None
            axes.plot(x, y, color=colour, linewidth=width, label=label)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.03)
    axes.set_aspect("equal")
    axes.legend(frameon=False, loc="lower right" if diagonal else "lower left")
    return _svg(figure)


def _axes(title: str, xlabel: str, ylabel: str):
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 3.8), layout="constrained")
        axes = figure.subplots()
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    return figure, axes


def _svg(figure: Figure) -> str:
    """The figure as SVG text without date and random ids, so that equal data give equal bytes."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
