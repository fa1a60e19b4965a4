"""A paper's results for a task of the same name, the study's own beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecg_pipeline.metrics.table import WITH_INTERVAL
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.estimate import Estimate
from ecg_pipeline.reporting.paper import Paper
from ecg_pipeline.reporting.performance import Rows
from ecg_pipeline.reporting.results import TaskResults


@dataclass(frozen=True)
class PublishedCell:
    """One value of the paper, and the study's own for a model of the same name, if it has one."""

    paper: Estimate
    ours: float | None


@dataclass(frozen=True)
class PublishedBlock:
    """One metric on one split of the paper's patients: a cell for each fraction, by model."""

    heading: str
    rows: Mapping[str, list[PublishedCell]]


@dataclass(frozen=True)
class PublishedSection:
    """A paper's results for one task. cohorts: ECGs and percentage of positives by split."""

    title: str
    source: str
    fractions: Sequence[float]
    blocks: list[PublishedBlock]
    cohorts: Mapping[str, tuple[int, float]]
    contradictions: list[str]


def published_section(task: TaskResults, rows: Rows, paper: Paper) -> PublishedSection | None:
    """The section of a task, or None where the paper has no task of that name."""
    published = paper.tables()
    if task.name not in published.cohorts:
        return None
    external = [site for site, role in task.roles.items() if role == "external"]
    ours = {"internal": next(iter(tables.populations(task))), "external": external[0] if external else None}
    blocks = [
        PublishedBlock(
            f"{metric.heading}, {published.splits[split].lower()}",
            {
                published.models[model]: [
                    PublishedCell(value, rows.get((model, fraction, ours[split] or ""), {}).get(metric.name))
                    for fraction, value in zip(published.fractions, values, strict=True)
                ]
                for model, values in by_model.items()
            },
        )
        for metric in WITH_INTERVAL
        if metric.name in published.metrics
        for split, by_model in published.metrics[metric.name][task.name].items()
    ]
    return PublishedSection(
        published.title,
        paper.source,
        published.fractions,
        blocks,
        published.cohorts[task.name],
        [*published.contradictions["all"], *published.contradictions[task.name]],
    )
