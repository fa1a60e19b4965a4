"""How many ECGs are explained, as a study says it."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError


@dataclass(frozen=True)
class SaliencyRecipe:
    """How many positive test ECGs of each task are explained (paper: Figure 5 shows one)."""

    ecgs: int = 8

    def __post_init__(self) -> None:
        if self.ecgs < 1:
            raise RecipeError("saliency explains at least one ECG", "ecgs")
