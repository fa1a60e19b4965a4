"""ECG-FM (McKeen et al. 2025): wav2vec 2.0 on segments of 12 leads, pretrained with CMSC and random lead masks."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline.models.family import Family

if TYPE_CHECKING:
    import polars as pl

    from ecg_pipeline.models.ecg_fm.classifier import EcgFmClassifier
    from ecg_pipeline.models.ecg_fm.objective import EcgFmObjective
    from ecg_pipeline.storage.shards import ArrayShards
    from ecg_pipeline.training.checkpoints import Checkpoint


class EcgFm(Family):
    """ECG-FM. It is pretrained on pairs of segments of a recording and needs no targets."""

    recipe = EcgFmRecipe
    pretraining = EcgFmPretraining
    examples_per_ecg = 2
    objective_name = "wav2vec 2.0 with CMSC and random lead masks"
    sees = "ECGs"
    licence = "MIT"
    leads = LEADS
    is_explained = True
    second_view = "attention_curve"

    def check(self, recipe: EcgFmRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the number of leads, and that a segment has frames."""
        leads, samples = shapes[recipe.view]
        if leads != recipe.leads:
            raise RecipeError(f"the window `{recipe.window}` has {leads} leads, not {recipe.leads}", "leads", "window")
        if recipe.shape.frames(samples) < 1:
            sentence = f"the window `{recipe.window}` has {samples} samples, too few for one frame"
            raise RecipeError(sentence, "window", "conv_strides", "conv_kernels")

    def check_pretraining(
        self, recipe: EcgFmRecipe, pretraining: EcgFmPretraining, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Check that a segment has room for its spans of masked frames."""
        frames, mask = recipe.shape.frames(shapes[recipe.view][1]), pretraining.mask
        starts, spans = frames - mask.length, max(2, int(mask.share * frames / mask.length + 1))
        if starts < spans:
            raise RecipeError(
                f"a segment of {frames} frames has no room for {spans} spans of {mask.length}: mask shorter spans, or "
                "read longer windows",
                "mask.length",
                "mask.share",
                "mask",
                "model.window",
            )

    def classifier(self, recipe: EcgFmRecipe, start: "Checkpoint | None", *, seed: int) -> "EcgFmClassifier":
        """A linear classifier on the mean over frames."""
        from ecg_pipeline.models.ecg_fm.classifier import ecg_fm_classifier

        return ecg_fm_classifier(recipe, start.state() if start else None, seed=seed)

    def objective(
        self,
        recipe: EcgFmRecipe,
        pretraining: EcgFmPretraining,
        *,
        arrays: "Mapping[str, Mapping[str, ArrayShards]]",
        fitted: Mapping[str, Path],
        table: "pl.DataFrame",
        seed: int,
    ) -> "EcgFmObjective":
        """Contrastive pretraining of a new network."""
        from ecg_pipeline.models.ecg_fm.objective import ecg_fm_objective

        return ecg_fm_objective(recipe, pretraining, seed=seed)

    def import_weights(self, file: Path, recipe: EcgFmRecipe, out: Path) -> "Checkpoint":
        """Import a file of the authors' scripts, pretrained or fine-tuned."""
        from ecg_pipeline.models.ecg_fm.checkpoint import import_pretraining

        return import_pretraining(file, recipe, out)

    def export_weights(self, checkpoint: "Checkpoint", path: Path) -> Path:
        """Export a file with the authors' names."""
        from ecg_pipeline.models.ecg_fm.checkpoint import export_pretraining

        return export_pretraining(checkpoint, path)


FAMILY = EcgFm()
