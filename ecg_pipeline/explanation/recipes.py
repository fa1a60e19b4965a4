"""The saliency section of a study file."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError


@dataclass(frozen=True)
class SaliencyRecipe:
    """How many test ECGs of each task are explained.

    ecgs: positive ones, by all models (the paper's Figure 5 shows one). errors: of each model, its most confident false
    positives, and as many false negatives; 0 for none.
    """

    ecgs: int = 8
    errors: int = 5

    def __post_init__(self) -> None:
        if self.ecgs < 1:
            raise RecipeError("saliency explains at least one ECG", "ecgs")
        if self.errors < 0:
            raise RecipeError("saliency explains at least no error", "errors")
