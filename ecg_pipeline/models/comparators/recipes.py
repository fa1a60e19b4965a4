"""The section of a study file for a comparator."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import IMAGES

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TimmRecipe:
    """A comparator: any of timm's models, with the normalisation that its weights were trained with.

    image_px: side of the images. average_px: height and width of the rectangles over which images are averaged before
    the network, which makes it cheaper; strokes are anti-aliased, so their place stays in the grey levels.
    """

    family: Literal["timm"] = "timm"
    name: str = "resnet152"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    image_px: int = 224
    average_px: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if ":" in self.name or "/" in self.name:
            sentence = f"`{self.name}` is not one of timm's own models; models from elsewhere are not downloaded"
            raise RecipeError(sentence, "name")
        if self.image_px < 1:
            raise RecipeError("image_px must be at least 1", "image_px")
        if min(self.average_px) < 1 or any(self.image_px % side for side in self.average_px):
            raise RecipeError(
                f"{self.average_px[0]} x {self.average_px[1]} px do not tile an image of {self.image_px} px",
                "average_px",
                "image_px",
            )
        if min(self.std) <= 0:
            raise RecipeError("the standard deviations of a normalisation must be positive", "std")

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return IMAGES

    @property
    def description(self) -> str:
        """The network in words."""
        return self.name
