"""What the models of a page cost: parameters, operations and seconds of a thread, in pretraining and in fitting."""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.results import Background, TaskResults

EQUAL = 1.10
"""Operations of two trainings are called equal up to this ratio."""


@dataclass(frozen=True)
class Cost:
    """One training. flops: of one seed. ratio: of them to the least of those that should be equal, None of others.

    seeds, thread_seconds: of all seeds together. What is not known is None.
    """

    model: str
    parameters: int | None
    flops: int | None
    ratio: float | None
    seeds: int
    thread_seconds: float | None

    @property
    def is_equal(self) -> bool:
        """Whether the operations count as equal to the least."""
        return self.ratio is not None and self.ratio <= EQUAL


def pretraining_costs(background: Background) -> list[Cost]:
    """Of every model that is pretrained here; their operations should be equal."""
    costs = background.pretraining_costs
    least = _least(cost.flops for cost in costs.values())
    return [
        Cost(model, one.parameters, one.flops, _ratio(one.flops, least), one.seeds, one.thread_seconds)
        for model, one in costs.items()
    ]


def fitting_costs(task: TaskResults, results: pl.DataFrame, models: Iterable[str]) -> list[Cost]:
    """Of every model of a task, at the largest fraction. Those of the compared models should be equal."""
    largest = tables.fractions(task)[-1]
    rows = {row["model"]: row for row in results.filter(fraction=largest).iter_rows(named=True)}
    compared = {pair.model for pair in task.pairs}
    least = _least(row["flops"] for model, row in rows.items() if model in compared)
    return [
        Cost(
            model,
            rows[model]["parameters"],
            rows[model]["flops"],
            _ratio(rows[model]["flops"], least) if model in compared else None,
            rows[model]["seeds"],
            task.thread_seconds.get((model, largest)),
        )
        for model in models
    ]


def _least(flops: Iterable[int | None]) -> int | None:
    return min((one for one in flops if one), default=None)


def _ratio(flops: int | None, least: int | None) -> float | None:
    return flops / least if flops and least else None
