"""Page contents of one task: its tables as rows and its figures as SVG, ready for the template."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.figures import (
    calibration_figure,
    decision_figure,
    difference_figure,
    fraction_figure,
    precision_recall_figure,
    roc_figure,
    training_figure,
)
from ecg_pipeline.reporting.papers.heartbeit.tables import published
from ecg_pipeline.reporting.results import Background, TaskResults
from ecg_pipeline.training.recipes import OPTIMISTIC

METRICS = {"auroc": "AUROC", "average_precision": "AUPRC"}
PUBLISHED_METRICS = {"auroc": "auroc", "average_precision": "auprc"}
COUNTED = ("_ecgs", "_patients", "_positives")
EXCLUSIONS = {
    "without_patient_id": "no patient id",
    "waveform_of_another_site": "waveform of another site",
    "patient_also_internal": "external patient also seen inside",
    "waveform_pretrained_on": "waveform that was pretrained on",
    "without_label": "no label",
}


def section(task: TaskResults, background: Background) -> dict[str, Any]:
    """Everything that the template prints of a task; `results` and `differences` are its numbers as tables."""
    recipe, first = background.evaluation, background.pretrained
    cells = tables.compute_cells(task, recipe)
    results = tables.result_rows(task, cells)
    differences = tables.difference_rows(task, first, recipe)
    names, populations = tables.models(task, first), tables.populations(task)
    by_place = {(row["model"], row["fraction"], row["site"]): row for row in results.iter_rows(named=True)}
    largest = tables.fractions(task)[-1]
    return {
        "task": task,
        "results": results,
        "differences": differences,
        "models": names,
        "initialisations": {row["model"]: row["initialisation"] for row in results.iter_rows(named=True)},
        "fractions": tables.fractions(task),
        "populations": {name: _words(task, name) for name in populations},
        "main": tables.main_populations(task),
        "cells": by_place,
        "reasons": _reasons(cells),
        "seeds": results["seeds"].max(),
        "optimistic": OPTIMISTIC if results["optimistic"].any() else None,
        "flow": _flow(task),
        "evaluation_counts": _evaluation_counts(task),
        "operating_points": {
            name: tables.operating_rows(task, cells, first, name) for name in tables.main_populations(task)
        },
        "no_operating_points": _no_operating_points(task),
        "subgroups": {name: tables.subgroup_rows(task, cells, first, name) for name in tables.main_populations(task)},
        "published": _published(task, by_place),
        "figures": {
            name: _figures(task, cells, results, differences, name, names, largest)
            for name in tables.main_populations(task)
        },
    }


ACCURACIES = {
    "accuracy_of_background": "if always the commonest",
    "accuracy": "of all",
    "accuracy_drawn": "of all but the commonest",
}
"""What the columns of a pretraining's trace are called in its figure; drawn in this order, the last on top."""


def pretraining_figures(background: Background) -> list[str]:
    """Loss, and accuracy on the masked patches, by step."""
    trace = background.pretraining_trace
    if trace is None:
        return []
    trace = trace.rename(ACCURACIES)
    drawn = [(["loss"], "Masked image modelling: loss"), (list(ACCURACIES.values()), "Masked patches named rightly")]
    return [training_figure(trace, columns, title) for columns, title in drawn]


def _figures(
    task: TaskResults,
    cells: tables.Cells,
    results: pl.DataFrame,
    differences: pl.DataFrame,
    population: str,
    names: list[str],
    largest: float,
) -> list[str]:
    """Metrics and differences by fraction, then curves of the models that saw all training patients."""
    scored = {name: cells[name, largest, population] for name in names}
    scored = {name: found for name, found in scored.items() if found.metrics["auroc"] is not None}
    if not scored:
        return []
    where = _words(task, population) + (f"\n{OPTIMISTIC}" if results["optimistic"].any() else "")
    drawn = []
    for metric, name in METRICS.items():
        columns = {"value": metric, "low": f"{metric}_low", "high": f"{metric}_high"}
        chosen = [pl.col(old).alias(new) for new, old in columns.items()]
        order = pl.col("model").replace_strict({model: place for place, model in enumerate(names)})
        by_fraction = results.filter(site=population).sort(order, "fraction").select("model", "fraction", *chosen)
        drawn.append(fraction_figure(by_fraction, name, f"{name} by training data\n{where}"))
        ahead = differences.filter(site=population).select(pl.col("other").alias("model"), "fraction", *chosen)
        if ahead["value"].drop_nulls().len():
            drawn.append(difference_figure(ahead, name, f"{name}: {names[0]} less each other model\n{where}"))
    predictions = {name: tables.predictions(task, name, largest, population) for name in scored}
    at = f"{100 * largest:g} % of training data\n{where}"
    return [
        *drawn,
        roc_figure(predictions, f"ROC, {at}"),
        precision_recall_figure(predictions, f"Precision and recall, {at}"),
        calibration_figure({name: found.calibration for name, found in scored.items()}, f"Calibration, {at}"),
        decision_figure({name: found.decision for name, found in scored.items()}, f"Decision curves, {at}"),
    ]


def _words(task: TaskResults, population: str) -> str:
    """A population in words: its name and role."""
    role = tables.role(task, population)
    return f"{population} (internal sites)" if population == tables.TOGETHER else f"{population} ({role})"


def _reasons(cells: tables.Cells) -> list[str]:
    """Why figures are missing, each reason once with the first place that it is about."""
    found: dict[str, str] = {}
    for (model, fraction, population), computed in cells.items():
        where, metrics = f"{model} at {100 * fraction:g} % on {population}", computed.metrics
        calibration = [f"calibration: {v['reason']}" for v in metrics["calibration"].values() if "reason" in v]
        patients = (metrics["patient_level"] or {}).get("reason")
        for reason in (metrics.get("reason"), patients and f"by patient: {patients}", *calibration):
            if reason:
                found.setdefault(reason, where)
    return [f"{where}: {reason}" for reason, where in found.items()]


def _flow(task: TaskResults) -> dict[str, Any]:
    """From files to ECGs: rows of one number a site. Reasons that no file had are named apart."""
    sites = list(task.flow)
    met = [reason.value for reason in RejectReason if any(task.rejects[site].get(reason.value) for site in sites)]
    steps = list(dict.fromkeys(step for counts in task.flow.values() for step in counts))
    exclusions = [step for step in steps if step != "ecgs_in_store" and not step.endswith(COUNTED)]
    stored = {site: task.flow[site]["ecgs_in_store"] for site in sites}
    left_out = {site: sum(task.flow[site][step] for step in exclusions) for site in sites}
    return {
        "sites": sites,
        "files": [stored[site] + sum(task.rejects[site].values()) for site in sites],
        "rejects": {_plain(reason): [task.rejects[site].get(reason, 0) for site in sites] for reason in met},
        "never": [_plain(reason.value) for reason in RejectReason if reason.value not in met],
        "stored": list(stored.values()),
        "exclusions": {
            EXCLUSIONS.get(step, _plain(step)): [task.flow[site][step] for site in sites] for step in exclusions
        },
        "used": [stored[site] - left_out[site] for site in sites],
    }


def _evaluation_counts(task: TaskResults) -> dict[str, dict[str, int]]:
    """By site: how many evaluations there are, and how often any and the most frequent was materialised."""
    return {
        site: {"evaluations": len(counts), "times": sum(counts), "most": max(counts)}
        for site in task.roles
        if (counts := [times for (_, _, where), times in task.evaluation_counts.items() if where == site])
    }


def _no_operating_points(task: TaskResults) -> str | None:
    """Why some models have no operating points, or None."""
    for evaluation in task.evaluations.values():
        reason = evaluation.metrics()["operating_points"]["reason"]
        if reason:
            return reason
    return None


def _published(task: TaskResults, cells: Mapping[Any, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The paper's numbers for a task of the same name: for each metric and part its rows, ours beside them."""
    paper = published()
    if task.name not in paper["cohorts"]:
        return None
    outside = [site for site, role in task.roles.items() if role == "external"]
    ours = {"internal": next(iter(tables.populations(task))), "external": outside[0] if outside else None}
    rows = [
        {
            "metric": METRICS[metric],
            "part": paper["parts"][part],
            "model": paper["models"][model],
            "cells": [
                {"paper": value, "ours": cells.get((model, fraction, ours[part]), {}).get(metric)}
                for fraction, value in zip(paper["fractions"], values, strict=True)
            ],
        }
        for metric, key in PUBLISHED_METRICS.items()
        for part, by_model in paper[key][task.name].items()
        for model, values in by_model.items()
    ]
    return {
        "cohorts": paper["cohorts"][task.name],
        "rows": rows,
        "contradictions": [*paper["contradictions"]["all"], *paper["contradictions"][task.name]],
    }


def _plain(name: str) -> str:
    return name.replace("_", " ")
