"""ECGFounder (Li et al. 2025): a convolutional network on waveforms, pretrained on what physicians stated."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.models.ecgfounder.recipes import STATEMENTS, EcgFounderPretraining, EcgFounderRecipe
from ecg_pipeline.models.family import Family

if TYPE_CHECKING:
    import polars as pl

    from ecg_pipeline.models.ecgfounder.classifier import EcgFounderClassifier
    from ecg_pipeline.models.ecgfounder.objective import StatementObjective
    from ecg_pipeline.storage.shards import ArrayShards
    from ecg_pipeline.training.checkpoints import Checkpoint


class EcgFounder(Family):
    """ECGFounder, with twelve leads or lead I. Its targets are the statements whose codes are fitted."""

    recipe = EcgFounderRecipe
    pretraining = EcgFounderPretraining
    targets = (STATEMENTS,)
    fitted = ("statement_codes",)
    objective_name = "supervised pretraining on statements"
    sees = "ECGs, labels"
    licence = "MIT"
    leads = LEADS
    is_explained = True

    def check(self, recipe: EcgFounderRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the number of leads of the window."""
        if (leads := shapes[recipe.view][0]) != len(LEADS):
            sentence = f"the window `{recipe.window}` has {leads} leads: the network reads {', '.join(LEADS)}"
            raise RecipeError(f"{sentence}, or lead I of them", "window")

    def check_pretraining(
        self, recipe: EcgFounderRecipe, pretraining: EcgFounderPretraining, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Check that there are statements, and that the loss is a sum over examples."""
        if shapes[STATEMENTS] == (0,):
            raise RecipeError("there is no statement to pretrain on", "model.family")
        if recipe.use_bn:
            raise RecipeError(
                "with batch norm the loss of an ECG depends on the others of its batch, and so on how a batch is "
                "divided among processes: pretrain with `use_bn: false`, as the authors did",
                "model.use_bn",
            )

    def classifier(self, recipe: EcgFounderRecipe, start: "Checkpoint | None", *, seed: int) -> "EcgFounderClassifier":
        """A Net1D with one output."""
        from ecg_pipeline.models.ecgfounder.classifier import EcgFounderClassifier

        return EcgFounderClassifier(recipe, start.state() if start else None, seed=seed)

    def objective(
        self,
        recipe: EcgFounderRecipe,
        pretraining: EcgFounderPretraining,
        *,
        arrays: "Mapping[str, Mapping[str, ArrayShards]]",
        fitted: Mapping[str, Path],
        table: "pl.DataFrame",
        seed: int,
    ) -> "StatementObjective":
        """Classification of statements by a new network."""
        from ecg_pipeline.models.ecgfounder.objective import statement_objective

        return statement_objective(recipe, pretraining, targets=arrays[STATEMENTS], seed=seed)

    def import_weights(self, file: Path, recipe: EcgFounderRecipe, out: Path) -> "Checkpoint":
        """Take over a file of ECGFounder's weights. One that does not fit the network is a ValueError."""
        from ecg_pipeline.models.ecgfounder.published import import_released

        return import_released(file, recipe, out)

    def export_weights(self, checkpoint: "Checkpoint", path: Path) -> Path:
        """Write a file that ECGFounder's own scripts load."""
        from ecg_pipeline.models.ecgfounder.published import export_released

        return export_released(checkpoint, path)


FAMILY = EcgFounder()
