"""How evaluation is done, as a study says it."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError, check_seed
from ecg_pipeline.files import is_file_name


@dataclass(frozen=True)
class EvaluationRecipe:
    """Bootstrap draws over patients for the 95 % intervals (paper: Fine-tuning and statistical analysis, 500)."""

    bootstrap_draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap_draws < 2:
            raise RecipeError("an interval needs at least two bootstrap draws", "bootstrap_draws")
        check_seed(self.seed)


@dataclass(frozen=True)
class DistanceRecipe:
    """Images of each kind that are compared pair by pair (paper: Wasserstein Distance, 1,000).

    natural: name of a folder of natural images below `ECG_DATA`; None takes three photographs that dependencies ship.
    """

    images: int = 1000
    seed: int = 0
    natural: str | None = None

    def __post_init__(self) -> None:
        if self.images < 2:
            raise RecipeError("a mean over pairs needs at least two images of each kind", "images")
        if self.natural is not None and not is_file_name(self.natural):
            sentence = f"natural is the name of a folder below ECG_DATA, not a path: `{self.natural}`"
            raise RecipeError(sentence, "natural")
        check_seed(self.seed)


@dataclass(frozen=True)
class SaliencyRecipe:
    """How many positive test ECGs of each task are explained (paper: Figure 5 shows one)."""

    ecgs: int = 8

    def __post_init__(self) -> None:
        if self.ecgs < 1:
            raise RecipeError("saliency explains at least one ECG", "ecgs")
