"""HeartBEiT's sections of a study file: the network, and its pretraining."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.training.recipes import PretrainRecipe

TOKENS = "patch_tokens"
"""The target: one token a patch, (P,) int16, patches row-major."""


@dataclass(frozen=True)
class MaskRecipe:
    """Mask of masked image modelling. 75 of 196 patches is BEiT's setting, and most likely the paper's 40 %.

    Of blockwise masks only: smallest_block, largest_block (None: `patches`), in patches; aspect: least ratio of height
    to width, the greatest is its inverse.
    """

    kind: Literal["blockwise", "uniform"] = "blockwise"
    patches: int = 75
    smallest_block: int = 16
    largest_block: int | None = None
    aspect: float = 0.3

    def __post_init__(self) -> None:
        for key in ("patches", "smallest_block", "largest_block"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if not 0 < self.aspect <= 1:
            raise RecipeError("aspect must lie in (0, 1]", "aspect")
        largest = min(self.largest_block or self.patches, self.patches)
        if self.kind == "blockwise" and self.smallest_block > largest:
            raise RecipeError(
                f"blocks of {self.smallest_block} patches or more do not fit into {largest}",
                "smallest_block",
                "largest_block",
                "patches",
            )


@dataclass(frozen=True)
class HeartBeitRecipe:
    """A BEiT; the defaults are HeartBEiT's base size (paper: Model selection; 86 M parameters).

    drop_path: rate of the last block, rising linearly from 0. layer_scale: initial value of both scales of a block.
    """

    family: Literal["heartbeit"] = "heartbeit"
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

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return IMAGES

    @property
    def description(self) -> str:
        """The network in words."""
        return f"BEiT, {self.depth} layers of width {self.width}"


@dataclass(frozen=True)
class HeartBeitPretraining(PretrainRecipe):
    """Masked image modelling: predicting the tokens of masked patches (paper: Masked Image Modeling, Pre-training)."""

    mask: MaskRecipe = MaskRecipe()
