"""The reports: one self-contained HTML page a task, and one over all tasks (the paper's tables and figures).

Plain values come in, from whatever ran the study; a page needs no network, prints, and reads in light and dark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from ecg_pipeline.evaluation.evaluate import Evaluation
from ecg_pipeline.evaluation.figures import fraction_figure, precision_recall_figure, roc_figure
from ecg_pipeline.files import write_parquet, write_text
from ecg_pipeline.training.recipes import OPTIMISTIC

REVISION = 2
"""Bumped by hand when this module's results change."""

HONEST = (
    "The epoch is chosen once, on validation patients. The paper reports the best epoch on the test set, which is "
    "optimistic.",
    "All models share one optimiser, and each its own normalisation. In the paper's code both differ between models.",
)
"""What the honest protocol of fine-tuning changes."""

OFFICIAL = (
    "Fine-tuning follows the released code: the epoch is the best one on the test patients, so every figure here is "
    "optimistic. Who trains and who tests is this study's split, not the code's.",
    "Each model has its own normalisation. In the paper's code BEiT's differs from that of all others.",
)
"""What the official protocol leaves changed."""

DEVIATIONS = (
    "Pretraining and tokenizer see training patients only. The paper pretrained on all five hospitals, the external "
    "one and the test patients among them (without labels).",
    "Patients of an external hospital who are also seen inside are left out and counted. The paper cuts by site alone.",
    "Fractions are of patients, and nested. The paper draws ECGs.",
    "Intervals are percentiles of a bootstrap over patients. The paper's intervals of width zero cannot come from one.",
    "AUPRC is average precision; the paper's area under straight lines is larger.",
    "Low ejection fraction is 40 % or less throughout; the paper says both that and less than 40 %.",
    "75 of 196 patches are masked, blockwise, which realises 38 %; the paper says 40 %.",
)


@dataclass(frozen=True)
class TaskResults:
    """Everything that a task's report is made of.

    evaluations: by model, fraction and site. flow: `Cohort.flow`. rejects: number of files by site and reason.
    roles: `internal`, `external` or `transfer` by site.
    """

    name: str
    title: str
    evaluations: Mapping[tuple[str, float, str], Evaluation]
    flow: Mapping[str, Mapping[str, int]]
    rejects: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, str]


@dataclass(frozen=True)
class Report:
    """A page and its numbers. Files: `report.html`, `results.parquet`."""

    folder: Path

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def results(self) -> pl.DataFrame:
        """One row a task, model, fraction and site, columns as in `RESULT_SCHEMA`."""
        return pl.read_parquet(self.folder / "results.parquet")


RESULT_SCHEMA = {
    "task": pl.String,
    "model": pl.String,
    "initialisation": pl.String,
    "fraction": pl.Float64,
    "site": pl.String,
    "role": pl.String,
    "train_patients": pl.Int64,
    "train_positives": pl.Int64,
    "seeds": pl.Int64,
    "optimistic": pl.Boolean,
    "ecgs": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "auroc": pl.Float64,
    "auroc_low": pl.Float64,
    "auroc_high": pl.Float64,
    "auroc_sd": pl.Float64,
    "average_precision": pl.Float64,
    "average_precision_low": pl.Float64,
    "average_precision_high": pl.Float64,
    "average_precision_sd": pl.Float64,
    "brier": pl.Float64,
}


SPREADS = ("low", "high", "sd")


def write_report(
    title: str, tasks: Sequence[TaskResults], synthetic: bool, facts: Mapping[str, str], out: Path
) -> Report:
    """Write one page over the given tasks to `out`.

    synthetic: whether any patient is invented, which the page says before anything else. facts: what made the page
    (study, fingerprint, code), printed at its foot.
    """
    results = pl.concat([result_rows(task) for task in tasks])
    optimistic = bool(results["optimistic"].any())
    write_parquet(out / "results.parquet", results)
    environment = Environment(
        loader=PackageLoader("ecg_pipeline.evaluation"), autoescape=select_autoescape(), undefined=StrictUndefined
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        synthetic=synthetic,
        optimistic=optimistic,
        tasks=[_section(task, results.filter(pl.col("task") == task.name)) for task in tasks],
        deviations=(*(OFFICIAL if optimistic else HONEST), *DEVIATIONS),
        facts=facts,
    )
    write_text(out / "report.html", page)
    return Report(out)


def result_rows(task: TaskResults) -> pl.DataFrame:
    """The numbers of a task, a row for each model, fraction and site; nulls where a site lacks one of the labels.

    AUROC and average precision are means over the seeds, low and high the interval of the mean, sd that of the seeds.
    """
    rows = []
    for (model, fraction, site), evaluation in task.evaluations.items():
        metrics = evaluation.metrics()
        row: dict[str, Any] = {
            "task": task.name,
            "model": model,
            "initialisation": metrics["model"]["initialisation"],
            "fraction": fraction,
            "site": site,
            "role": task.roles[site],
            "train_patients": metrics["model"]["train_patients"],
            "train_positives": metrics["model"]["train_positives"],
            "seeds": len(metrics["model"]["seeds"]),
            "optimistic": metrics["model"]["optimistic"],
            "brier": metrics["brier"],
        }
        row |= {name: metrics[name] for name in ("ecgs", "patients", "positives")}
        for name in ("auroc", "average_precision"):
            interval = metrics[name] or {}
            row |= {name: interval.get("value")} | {f"{name}_{what}": interval.get(what) for what in SPREADS}
        rows.append(row)
    return pl.DataFrame(rows, schema=RESULT_SCHEMA).sort("model", "fraction", "site", maintain_order=True)


def _section(task: TaskResults, results: pl.DataFrame) -> dict[str, Any]:
    """What the template needs for one task."""
    sites = list(dict.fromkeys(site for _, _, site in task.evaluations))
    fractions = sorted({fraction for _, fraction, _ in task.evaluations})
    models = list(dict.fromkeys(model for model, _, _ in task.evaluations))
    cells = {(row["model"], row["fraction"], row["site"]): row for row in results.iter_rows(named=True)}
    return {
        "name": task.name,
        "title": task.title,
        "roles": task.roles,
        "sites": sites,
        "fractions": fractions,
        "models": models,
        "cells": cells,
        "seeds": results["seeds"].max(),
        "optimistic": OPTIMISTIC if results["optimistic"].any() else None,
        "flow": task.flow,
        "rejects": task.rejects,
        "initialisations": {row["model"]: row["initialisation"] for row in results.iter_rows(named=True)},
        "figures": [figure for site in sites for figure in _figures(task, results, site, fractions[-1])],
    }


def _figures(task: TaskResults, results: pl.DataFrame, site: str, fraction: float) -> list[str]:
    """Curves at one site for the largest fraction, and both metrics against the fraction."""
    where = f"{site} ({task.roles[site]})"
    if results["optimistic"].any():
        where += f"\n{OPTIMISTIC}"
    predictions = {
        model: evaluation.predictions()
        for (model, f, s), evaluation in task.evaluations.items()
        if s == site and f == fraction and evaluation.metrics()["auroc"] is not None
    }
    at_site = results.filter(pl.col("site") == site)
    if not predictions or at_site["auroc"].is_null().all():
        return []
    figures = [
        roc_figure(predictions, f"ROC at {100 * fraction:g} %\n{where}"),
        precision_recall_figure(predictions, f"Precision and recall at {100 * fraction:g} %\n{where}"),
    ]
    for metric, name in (("auroc", "AUROC"), ("average_precision", "AUPRC")):
        columns = {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
        rows = at_site.select("model", "fraction", **{new: pl.col(old) for new, old in columns.items()})
        figures.append(fraction_figure(rows, name, f"{name} by training data\n{where}"))
    return figures
