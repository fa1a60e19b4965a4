"""HeartBEiT (Vaid et al. 2023): a BEiT pretrained on rendered ECGs by predicting the tokens of masked patches."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import Family, check_image_size
from ecg_pipeline.models.heartbeit.masking import sample_masks
from ecg_pipeline.models.heartbeit.recipes import TOKENS, HeartBeitPretraining, HeartBeitRecipe

if TYPE_CHECKING:
    import polars as pl

    from ecg_pipeline.models.heartbeit.classifier import HeartBeitClassifier
    from ecg_pipeline.models.heartbeit.objective import MaskedImageObjective
    from ecg_pipeline.storage.shards import ArrayShards
    from ecg_pipeline.training.checkpoints import Checkpoint

SAMPLED_MASKS = 32
"""Number of masks sampled to check that patches get masked."""


class HeartBeit(Family):
    """HeartBEiT. Its targets are the patch tokens of a fitted image tokenizer."""

    recipe = HeartBeitRecipe
    pretraining = HeartBeitPretraining
    targets = (TOKENS,)
    fitted = ("image_tokenizer",)
    objective_name = "masked image modelling"
    sees = "ECGs"
    licence = "none stated"
    is_explained = True
    second_view = "rollout"

    def check(self, recipe: HeartBeitRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the size of the images."""
        check_image_size(recipe.image_px, shapes)

    def check_pretraining(
        self, recipe: HeartBeitRecipe, pretraining: HeartBeitPretraining, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Check that there is a token for each patch, and that masks cover some of the patches, but not all."""
        (tokens,), patches, mask = shapes[TOKENS], recipe.grid**2, pretraining.mask
        side = round(tokens**0.5)
        if patches != tokens:
            raise RecipeError(
                f"patches of {recipe.patch_px} px divide {recipe.image_px} px into {recipe.grid} x {recipe.grid}, but "
                f"an image has {side} x {side} tokens: choose patch_px = image_px / {side}",
                "model.patch_px",
                "model.image_px",
            )
        if mask.patches >= tokens:
            raise RecipeError(
                f"{mask.patches} of {tokens} masked patches leave none visible: mask fewer", "mask.patches", "mask"
            )
        if not sample_masks(mask, range(SAMPLED_MASKS), seed=0, step=0, rows=side, columns=side).any():
            raise RecipeError(
                f"no block of {mask.smallest_block} to {mask.largest_block or mask.patches} patches with sides of "
                f"{mask.aspect:g} or more to 1 fits into {side} x {side}, so nothing would be masked: "
                "allow smaller or longer blocks",
                "mask.smallest_block",
                "mask.aspect",
                "mask.largest_block",
                "mask.patches",
            )

    def classifier(self, recipe: HeartBeitRecipe, start: "Checkpoint | None", *, seed: int) -> "HeartBeitClassifier":
        """A BEiT classifier on the mean of the patch tokens."""
        from ecg_pipeline.models.heartbeit.classifier import HeartBeitClassifier

        return HeartBeitClassifier(recipe, start.state() if start else None, seed=seed)

    def objective(
        self,
        recipe: HeartBeitRecipe,
        pretraining: HeartBeitPretraining,
        *,
        arrays: "Mapping[str, Mapping[str, ArrayShards]]",
        fitted: Mapping[str, Path],
        table: "pl.DataFrame",
        seed: int,
    ) -> "MaskedImageObjective":
        """Masked image modelling of a new network."""
        from ecg_pipeline.models.heartbeit.objective import masked_image_objective

        return masked_image_objective(recipe, pretraining.mask, tokens=arrays[TOKENS], table=table, seed=seed)

    def import_weights(self, file: Path, recipe: HeartBeitRecipe, out: Path) -> "Checkpoint":
        """Import a pretraining checkpoint of BEiT's or HeartBEiT's own scripts."""
        from ecg_pipeline.models.heartbeit.beit import import_pretraining

        return import_pretraining(file, recipe, out)

    def export_weights(self, checkpoint: "Checkpoint", path: Path) -> Path:
        """Export a file that BEiT's and HeartBEiT's own fine-tuning scripts load."""
        from ecg_pipeline.models.heartbeit.beit import export_pretraining

        return export_pretraining(checkpoint, path)


FAMILY = HeartBeit()
