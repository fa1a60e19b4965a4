"""The model sections of a study file."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.storage.files import is_file_name

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

RANDOM = "random initialisation"
"""Where a model without pretrained weights starts from, in words for a table."""


@dataclass(frozen=True)
class BeitRecipe:
    """A BEiT; the defaults are HeartBEiT's base size (paper: Model selection; 86 M parameters).

    drop_path: rate of the last block, rising linearly from 0. layer_scale: initial value of both scales of a block.
    """

    family: Literal["beit"] = "beit"
    image_px: int = 224
    patch_px: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    drop_path: float = 0.1
    layer_scale: float = 0.1

    def __post_init__(self) -> None:
        for key in ("image_px", "patch_px", "width", "depth", "heads", "mlp_ratio"):
            if getattr(self, key) <= 0:
                raise RecipeError(f"{key} must be positive", key)
        if not 0 <= self.drop_path < 1:
            raise RecipeError("drop_path must lie in [0, 1)", "drop_path")
        if self.layer_scale < 0:
            raise RecipeError("layer_scale must not be negative", "layer_scale")
        if self.image_px % self.patch_px:
            sentence = f"patches of {self.patch_px} px do not tile an image of {self.image_px} px"
            raise RecipeError(sentence, "patch_px", "image_px")
        if self.width % self.heads:
            raise RecipeError(f"width {self.width} does not divide into {self.heads} heads", "heads", "width")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_px // self.patch_px


@dataclass(frozen=True)
class TimmRecipe:
    """A comparator: any of timm's models, with the normalisation that its weights were trained with.

    weights: name of a local weights file; None is random initialisation, and tables say so.
    image_px: side of the images, used by models that are built for one image size.
    """

    family: Literal["timm"] = "timm"
    name: str = "resnet152"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    weights: str | None = None
    image_px: int = 224

    def __post_init__(self) -> None:
        if ":" in self.name or "/" in self.name:
            sentence = f"`{self.name}` is not one of timm's own models; models from elsewhere are not downloaded"
            raise RecipeError(sentence, "name")
        if self.weights is not None and not is_file_name(self.weights):
            raise RecipeError(f"weights must be the name of a file, without a folder, not `{self.weights}`", "weights")
        if self.image_px < 1:
            raise RecipeError("image_px must be at least 1", "image_px")
        if min(self.std) <= 0:
            raise RecipeError("the standard deviations of a normalisation must be positive", "std")


ModelRecipe = BeitRecipe | TimmRecipe
