"""How the image distance is measured, as a study says it."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError, check_seed
from ecg_pipeline.storage.files import is_file_name


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
