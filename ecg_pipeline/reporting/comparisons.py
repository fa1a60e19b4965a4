"""The planned comparisons of a page: pretrained models minus the same network from nothing, and minus a baseline."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import polars as pl

from ecg_pipeline.evaluation.summary import by_ecg
from ecg_pipeline.metrics.bootstrap import Interval
from ecg_pipeline.metrics.comparisons import holm, smallest_difference
from ecg_pipeline.metrics.resampling import Resampled, Scored, resample
from ecg_pipeline.reporting import tables
from ecg_pipeline.reporting.recipes import ComparisonsRecipe, Pair
from ecg_pipeline.reporting.results import TaskResults

DRAWS = 2000
"""Bootstrap draws, so that a p value of 0.001 can be seen. More are drawn for more than 50 comparisons."""

FEWEST_POSITIVES = 10
"""Positive training ECGs below which models are neither ranked nor compared: their order would be luck."""

MEAN = "mean"
"""Name of the subject that is the mean over tasks."""

SCHEMA = {
    "subject": pl.String,
    "site": pl.String,
    "fraction": pl.Float64,
    "model": pl.String,
    "other": pl.String,
    "against": pl.String,
    "pretraining_saw": pl.String,
    "difference": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "smallest": pl.Float64,
    "reason": pl.String,
}
"""Columns of `comparisons.parquet`. p_holm: corrected for all comparisons of the subject. smallest: the difference that
would have been seen, as `smallest_difference`."""


@dataclass(frozen=True)
class Subject:
    """What one table of comparisons is about: a task, or several whose mean AUROC is compared."""

    name: str
    title: str
    tasks: Sequence[TaskResults]
    recipe: ComparisonsRecipe
    seed: int

    @property
    def pairs(self) -> list[Pair]:
        """The comparisons that all tasks have."""
        first, *others = (task.pairs for task in self.tasks)
        return [pair for pair in first if all(pair in pairs for pairs in others)]

    @property
    def models(self) -> list[str]:
        """The models that all tasks have, in the order of the first."""
        first, *others = (dict.fromkeys(model for model, *_ in task.evaluations) for task in self.tasks)
        return [model for model in first if all(model in names for names in others)]

    @property
    def fractions(self) -> list[float]:
        """The fractions that are compared, ascending: the recipe's, or all, of those that all tasks have."""
        common = set.intersection(*(set(tables.fractions(task)) for task in self.tasks))
        return sorted(common & set(self.recipe.fractions) if self.recipe.fractions else common)

    @property
    def populations(self) -> list[str]:
        """The main populations that all tasks have."""
        first, *others = (tables.main_populations(task) for task in self.tasks)
        return [name for name in first if all(name in names for names in others)]

    @property
    def draws(self) -> int:
        """Bootstrap draws: as many as a corrected p of 0.05 needs, whose least is 2 / (draws + 1) times comparisons."""
        return max(DRAWS, 40 * len(self.populations) * len(self.fractions) * len(self.pairs))

    @cached_property
    def _drawn(self) -> dict[tuple[str, float, str], Resampled]:
        return {}

    def resampled(self, model: str, fraction: float, population: str) -> Resampled:
        """A model's AUROC in all draws. Labels that are all 0 or all 1 are a ValueError."""
        key = model, fraction, population
        if key not in self._drawn:
            scored = [_scored(task, *key) for task in self.tasks]
            self._drawn[key] = resample(scored, draws=self.draws, seed=self.seed, model=model)
        return self._drawn[key]

    def interval(self, model: str, fraction: float, population: str) -> Interval:
        """A model's AUROC with its interval over patients and seeds."""
        return self.resampled(model, fraction, population).interval()

    def unranked(self, model: str, fraction: float) -> str | None:
        """Why a model is neither ranked nor compared at a fraction, with the counts; None if it is."""
        for task in self.tasks:
            about = tables.training_of(task, model, fraction)
            if reason := about.get("not_trained"):
                return reason
            if about["train_positives"] < FEWEST_POSITIVES:
                return too_few(about["train_positives"], about["train_ecgs"])
        return None


def too_few(positives: int, ecgs: int) -> str:
    """The counts of a training set that is too small to rank models by."""
    return f"{positives} of {ecgs} training ECGs are positive, fewer than {FEWEST_POSITIVES}: no rank"


def subjects(tasks: Sequence[TaskResults], recipe: ComparisonsRecipe, *, seed: int) -> list[Subject]:
    """The tasks of a page, each by itself, and at the end the mean of those that are compared together, if all of them
    are on the page."""
    together = [task for task in tasks if task.name in recipe.mean_of]
    if len(together) < max(2, len(recipe.mean_of)):
        together = []
    names = {task.name for task in together}
    alone = [Subject(task.name, task.title, [task], recipe, seed) for task in tasks if task.name not in names]
    if not together:
        return alone
    title = f"Mean over {', '.join(task.title for task in together)}"
    return [*alone, Subject(MEAN, title, together, recipe, seed)]


def compare(subject: Subject) -> pl.DataFrame:
    """All planned comparisons of a subject, columns as in `SCHEMA`; where one cannot be made, `reason` says why."""
    rows = [
        {
            "subject": subject.name,
            "site": population,
            "fraction": fraction,
            "model": pair.model,
            "other": pair.other,
            "against": pair.against,
            "pretraining_saw": tables.training_of(subject.tasks[0], pair.model, fraction).get("pretraining_saw"),
            **_difference(subject, pair, fraction, population),
        }
        for population in subject.populations
        for fraction in subject.fractions
        for pair in subject.pairs
    ]
    made = [row for row in rows if "p" in row]
    for row, corrected in zip(made, holm([row["p"] for row in made]), strict=True):
        row |= {
            "p_holm": corrected,
            "smallest": smallest_difference(row.pop("error"), comparisons=len(made)),
        }
    return pl.DataFrame(rows, schema=SCHEMA)


def _difference(subject: Subject, pair: Pair, fraction: float, population: str) -> dict[str, Any]:
    for model in (pair.model, pair.other):
        if reason := subject.unranked(model, fraction):
            return {"reason": reason}
    try:
        one, other = (subject.resampled(model, fraction, population) for model in (pair.model, pair.other))
        found = one.minus(other)
    except ValueError as error:
        return {"reason": str(error)}
    error = one.error_of_difference(other)
    return {"difference": found.value, "low": found.low, "high": found.high, "p": found.p, "error": error}


def _scored(task: TaskResults, model: str, fraction: float, population: str) -> Scored:
    ecgs, scores = by_ecg(tables.predictions(task, model, fraction=fraction, population=population))
    return Scored(ecgs["label"].to_numpy(), scores, ecgs["patient"].to_numpy())


def ranks(values: Mapping[str, float | None]) -> Iterator[tuple[str, int]]:
    """The rank of each model that has a value, the highest being 1; equal values share a rank."""
    found = {model: value for model, value in values.items() if value is not None}
    for model, value in found.items():
        yield model, 1 + sum(other > value for other in found.values())
