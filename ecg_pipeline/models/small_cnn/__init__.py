"""A small residual 1D CNN on waveforms, trained from random weights: the baseline that any other model has to beat."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import Family
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe

if TYPE_CHECKING:
    from ecg_pipeline.models.small_cnn.network import SmallCnnClassifier
    from ecg_pipeline.training.checkpoints import Checkpoint


class SmallCnn(Family):
    """Small 1D CNNs. They have no pretraining."""

    recipe = SmallCnnRecipe
    is_explained = True

    def check(self, recipe: SmallCnnRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the number of leads."""
        if (leads := shapes[recipe.view][0]) != recipe.leads:
            raise RecipeError(f"the window `{recipe.window}` has {leads} leads, not {recipe.leads}", "leads", "window")

    def classifier(self, recipe: SmallCnnRecipe, start: "Checkpoint | None", *, seed: int) -> "SmallCnnClassifier":
        """A network with random weights."""
        from ecg_pipeline.models.small_cnn.network import small_cnn

        if start is not None:
            raise ValueError("a small_cnn starts from random weights")
        return small_cnn(recipe, seed=seed)


FAMILY = SmallCnn()
