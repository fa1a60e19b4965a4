"""How evaluation is done, as a study says it."""

from dataclasses import dataclass
from pathlib import PurePath


@dataclass(frozen=True)
class EvaluationRecipe:
    """Bootstrap draws over patients for the 95 % intervals (paper: Fine-tuning and statistical analysis, 500)."""

    bootstrap_draws: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if self.bootstrap_draws < 2:
            raise ValueError("an interval needs at least two bootstrap draws")


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
            raise ValueError("a mean over pairs needs at least two images of each kind")
        if self.natural is not None and PurePath(self.natural).name != self.natural:
            raise ValueError(f"natural is the name of a folder below ECG_DATA, not a path: `{self.natural}`")


@dataclass(frozen=True)
class SaliencyRecipe:
    """How many positive test ECGs of each task are explained (paper: Figure 5 shows one)."""

    ecgs: int = 8

    def __post_init__(self) -> None:
        if self.ecgs < 1:
            raise ValueError("saliency explains at least one ECG")
