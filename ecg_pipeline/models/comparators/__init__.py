"""Comparators: any of timm's image networks, from published weights or randomly initialised."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.comparators.timm_names import is_timm_model
from ecg_pipeline.models.family import Family, check_image_size

if TYPE_CHECKING:
    from ecg_pipeline.models.comparators.network import Comparator
    from ecg_pipeline.training.checkpoints import Checkpoint


class Comparators(Family):
    """timm's networks. They have no pretraining of their own: weights come from a published file, or at random."""

    recipe = TimmRecipe
    sees = "natural images, if the file is timm's"
    is_explained = True
    second_view = "rollout"

    def check(self, recipe: TimmRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check that timm has the network, and the size of the images."""
        if not is_timm_model(recipe.name):
            raise RecipeError(f"timm has no model `{recipe.name}`; `timm.list_models()` lists them", "name")
        check_image_size(recipe.image_px, shapes)

    def classifier(self, recipe: TimmRecipe, start: "Checkpoint | None", *, seed: int) -> "Comparator":
        """A timm network with one output."""
        from ecg_pipeline.models.comparators.network import Comparator

        return Comparator(recipe, start.state() if start else None, seed=seed)

    def import_weights(self, file: Path, recipe: TimmRecipe, out: Path) -> "Checkpoint":
        """Take over a file of timm's weights. One that does not fit the network is a ValueError."""
        from ecg_pipeline.models.comparators.network import comparator, stated_licence
        from ecg_pipeline.training.weights import read_weights, save_checkpoint

        state = read_weights(file)
        comparator(recipe, state, outputs=1, seed=0)  # raises where the file does not fit
        config = {
            "model": asdict(recipe),
            "imported": file.name,
            "origin": f"published weights {file.name}",
            "licence": stated_licence(recipe.name),
        }
        return save_checkpoint(out, state=state, config=config)


FAMILY = Comparators()
