"""The section `evaluation` of a study file."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError, check_seed


@dataclass(frozen=True)
class EvaluationRecipe:
    """Bootstrap draws over patients for the 95 % intervals (paper: Fine-tuning and statistical analysis, 500)."""

    bootstrap_draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap_draws < 2:
            raise RecipeError("an interval needs at least two bootstrap draws", "bootstrap_draws")
        check_seed(self.seed)
