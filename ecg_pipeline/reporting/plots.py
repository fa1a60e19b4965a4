"""The figures of a task: metrics and differences by fraction, then curves of models that saw all training patients."""

import polars as pl

from ecg_pipeline.metrics.table import WITH_INTERVAL
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
from ecg_pipeline.reporting.results import Background, TaskResults

ACCURACIES = {
    "accuracy_of_background": "always predicting the commonest token",
    "accuracy": "all tokens",
    "accuracy_inked": "all but the commonest token",
}
"""Labels in the figure of the columns of a pretraining's trace; plotted in this order, the last on top."""


def pretraining_figures(background: Background) -> list[str]:
    """Of each model that was pretrained here: loss, and accuracies if its objective has any, by step."""
    figures = []
    for model, trace in background.pretraining_traces.items():
        figures.append(training_figure(trace, ["loss"], f"Pretraining of {model}: loss"))
        accuracies = [name for name in (*ACCURACIES, *trace.columns) if "accuracy" in name and name in trace.columns]
        if accuracies:
            labels = {name: ACCURACIES.get(name, name) for name in dict.fromkeys(accuracies)}
            title = f"Pretraining of {model}: predicted correctly"
            figures.append(training_figure(trace.rename(labels), list(labels.values()), title))
    return figures


def task_figures(
    task: TaskResults,
    *,
    cells: tables.Cells,
    results: pl.DataFrame,
    differences: pl.DataFrame,
    population: str,
    models: list[str],
    where: str,
) -> list[str]:
    """SVG of one population. where: the population in words, in one or two lines below every title."""
    largest = tables.fractions(task)[-1]
    computed = {model: cells[model, largest, population] for model in models}
    computed = {model: found for model, found in computed.items() if "reason" not in found.metrics}
    if not computed:
        return []
    figures = []
    order = pl.col("model").replace_strict({model: place for place, model in enumerate(models)})
    for metric in WITH_INTERVAL:
        values = [
            pl.col(metric.name).alias("value"),
            pl.col(f"{metric.name}_low").alias("low"),
            pl.col(f"{metric.name}_high").alias("high"),
        ]
        by_fraction = results.filter(site=population).sort(order, "fraction").select("model", "fraction", *values)
        title = f"{metric.heading} by training data\n{where}"
        figures.append(fraction_figure(by_fraction, metric.heading, title))
        other_models = differences.filter(site=population).select(pl.col("other").alias("model"), "fraction", *values)
        if other_models["value"].drop_nulls().len():
            title = f"{metric.heading}: {models[0]} minus every other model\n{where}"
            figures.append(difference_figure(other_models, metric.heading, title))
    predictions = {
        model: tables.predictions(task, model, fraction=largest, population=population) for model in computed
    }
    at = f"{100 * largest:g} % of training data\n{where}"
    return [
        *figures,
        roc_figure(predictions, f"ROC, {at}"),
        precision_recall_figure(predictions, f"Precision and recall, {at}"),
        calibration_figure({model: found.calibration for model, found in computed.items()}, f"Calibration, {at}"),
        decision_figure({model: found.decision for model, found in computed.items()}, f"Decision curves, {at}"),
    ]
