"""The section `comparisons` of a study file: which differences a report tests, planned before anything was scored."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError


@dataclass(frozen=True)
class ComparisonsRecipe:
    """Each pretrained model minus the same network from nothing, where the study has one, and minus a baseline.

    baseline: a model's name; by default the study's first network without pretraining that is no arm of another.
    fractions: of the training patients; by default all of a task. mean_of: tasks that are compared together, by the
    mean of their AUROCs, in place of each by itself.
    """

    baseline: str | None = None
    fractions: tuple[float, ...] = ()
    mean_of: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean_of) == 1 or len(set(self.mean_of)) < len(self.mean_of):
            raise RecipeError("a mean needs at least two tasks, each once", "mean_of")


@dataclass(frozen=True)
class Pair:
    """A planned comparison: `model` minus `other`, which is the same network from nothing, or the study's baseline."""

    model: str
    other: str
    against: Literal["nothing", "baseline"]
