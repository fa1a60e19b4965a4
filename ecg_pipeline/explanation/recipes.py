"""The saliency section of a study file."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError


@dataclass(frozen=True)
class SaliencyRecipe:
    """Number of positive test ECGs of each task that are explained (the paper's Figure 5 shows one)."""

    ecgs: int = 8

    def __post_init__(self) -> None:
        if self.ecgs < 1:
            raise RecipeError("saliency explains at least one ECG", "ecgs")
