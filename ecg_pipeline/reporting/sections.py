"""What the page prints of one task: typed tables and SVG figures, ready for the template."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from ecg_pipeline.metrics.table import WITH_INTERVAL, Metric
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.costs import Cost, fitting_costs
from ecg_pipeline.reporting.decisions import OperatingRow, Subgroup, no_operating_points, operating_points, subgroups
from ecg_pipeline.reporting.flow import Flow, StudiedSite, participant_flow, studied_sites
from ecg_pipeline.reporting.outline import TABLE_NUMBERS
from ecg_pipeline.reporting.paper import Paper
from ecg_pipeline.reporting.performance import (
    Block,
    ComparedModel,
    Measures,
    Trained,
    compared_models,
    further_measures,
    metric_blocks,
    missing_values,
    rows_by_evaluation,
    trained_on,
)
from ecg_pipeline.reporting.plots import task_figures
from ecg_pipeline.reporting.published import PublishedSection, published_section
from ecg_pipeline.reporting.results import Background, TaskResults
from ecg_pipeline.reporting.saliency import SaliencySection, saliency_section
from ecg_pipeline.reporting.starts import start_lines
from ecg_pipeline.reporting.zero_shot import ZeroShotSection, zero_shot_section
from ecg_pipeline.training.recipes import OPTIMISTIC


@dataclass(frozen=True)
class MetricTable:
    """A metric by the fraction of the training patients, with the number of its table."""

    number: int
    metric: Metric
    blocks: list[Block]


@dataclass(frozen=True)
class EvaluationCount:
    """How many evaluations a site has, how often they were materialised in all, and how often the most frequent."""

    site: str
    evaluations: int
    times: int
    most: int


@dataclass(frozen=True)
class PopulationSection:
    """What is printed of one main population. heading: its name in words."""

    heading: str
    comparisons: list[ComparedModel]
    figures: list[str]
    operating_points: Mapping[str, list[OperatingRow]]
    subgroups: Mapping[str, list[Subgroup]]


@dataclass(frozen=True)
class TaskSection:
    """Everything that the page prints of a task.

    results, differences: its numbers, as they are in the files. starts: by model, lines on its weights and pretraining.
    costs: of fitting its models at the largest fraction.
    """

    name: str
    title: str
    outcome: str
    results: pl.DataFrame
    differences: pl.DataFrame
    models: list[str]
    starts: Mapping[str, list[str]]
    fractions: list[float]
    seeds: int
    optimistic: str | None
    sites: list[StudiedSite]
    flow: Flow
    metric_tables: list[MetricTable]
    trained_on: list[Trained]
    missing: list[str]
    evaluation_counts: list[EvaluationCount]
    measures: Measures
    costs: list[Cost]
    no_operating_points: str | None
    populations: list[PopulationSection]
    zero_shot: ZeroShotSection | None
    saliency: SaliencySection | None
    published: PublishedSection | None


def task_section(
    task: TaskResults, background: Background, paper: Paper | None, *, saliency_pictures: bool
) -> TaskSection:
    """Compute the tables and plot the figures of one task."""
    recipe, first = background.evaluation, tables.reference(task, background.reference)
    cells = tables.compute_cells(task, recipe)
    results = tables.result_rows(task, cells)
    differences = tables.difference_rows(task, first, recipe)
    rows, models, fractions = rows_by_evaluation(results), tables.models(task, first), tables.fractions(task)
    populations = {name: tables.in_words(task, name) for name in tables.populations(task)}
    optimistic = OPTIMISTIC if results["optimistic"].any() else None
    return TaskSection(
        name=task.name,
        title=task.title,
        outcome=task.outcome,
        results=results,
        differences=differences,
        models=models,
        starts={model: start_lines(next(row for (of, *_), row in rows.items() if of == model)) for model in models},
        fractions=fractions,
        seeds=int(results["seeds"].to_numpy().max()),
        optimistic=optimistic,
        sites=studied_sites(task),
        flow=participant_flow(task),
        metric_tables=[
            MetricTable(
                TABLE_NUMBERS.metrics[metric.name],
                metric,
                metric_blocks(metric, rows, models=models, fractions=fractions, populations=populations),
            )
            for metric in WITH_INTERVAL
        ],
        trained_on=trained_on(rows, model=models[0], fractions=fractions, population=next(iter(populations))),
        missing=missing_values(cells),
        evaluation_counts=_evaluation_counts(task),
        measures=further_measures(rows, models=models, largest=fractions[-1], populations=populations),
        costs=fitting_costs(task, results, models),
        no_operating_points=no_operating_points(task),
        populations=[
            PopulationSection(
                heading=populations[name],
                comparisons=compared_models(differences, name),
                figures=task_figures(
                    task,
                    cells=cells,
                    results=results,
                    differences=differences,
                    population=name,
                    models=models,
                    where=populations[name] + (f"\n{optimistic}" if optimistic else ""),
                ),
                operating_points=operating_points(task, cells, models=models, population=name),
                subgroups=subgroups(task, cells, models=models, population=name),
            )
            for name in tables.main_populations(task)
        ],
        zero_shot=zero_shot_section(task) if task.zero_shots else None,
        saliency=saliency_section(task.saliency, with_pictures=saliency_pictures) if task.saliency else None,
        published=published_section(task, rows, paper) if paper else None,
    )


def _evaluation_counts(task: TaskResults) -> list[EvaluationCount]:
    by_site = {
        site: [times for (_, _, where), times in task.evaluation_counts.items() if where == site] for site in task.roles
    }
    return [EvaluationCount(site, len(times), sum(times), max(times)) for site, times in by_site.items() if times]
