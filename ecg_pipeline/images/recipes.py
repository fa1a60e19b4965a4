"""The image distance section of a study file."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError, check_seed
from ecg_pipeline.storage.files import is_file_name


@dataclass(frozen=True)
class DistanceRecipe:
    """The paper's image distance (Wasserstein Distance), over all pairs of images.

    images: number of ECG and of natural images (paper: 1,000). natural: name of a folder of natural images below
    `ECG_DATA`; None uses three photographs that dependencies ship.
    """

    images: int = 1000
    seed: int = 0
    natural: str | None = None

    def __post_init__(self) -> None:
        if self.images < 2:
            raise RecipeError("a mean over pairs needs at least two images of each kind", "images")
        if self.natural is not None and not is_file_name(self.natural):
            sentence = f"natural must be the name of a folder below ECG_DATA, not a path: `{self.natural}`"
            raise RecipeError(sentence, "natural")
        check_seed(self.seed)
