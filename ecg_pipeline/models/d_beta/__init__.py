"""D-BETA (Pham et al. 2025): masked modelling of ECGs and of physicians' texts, and a contrast of the two."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import LEADS, RecipeError
from ecg_pipeline.models.d_beta.recipes import (
    NEGATIVES,
    POSITIONS,
    TEXTS,
    TOKENIZER,
    DBetaPretraining,
    DBetaRecipe,
)
from ecg_pipeline.models.family import Family

if TYPE_CHECKING:
    import polars as pl

    from ecg_pipeline.models.d_beta.classifier import DBetaClassifier
    from ecg_pipeline.models.d_beta.objective import DBetaObjective
    from ecg_pipeline.models.d_beta.vectors import DBetaVectors
    from ecg_pipeline.storage.shards import ArrayShards
    from ecg_pipeline.training.checkpoints import Checkpoint


class DBeta(Family):
    """D-BETA. Its targets are the tokens of the texts; what is fitted for them also names each text's negatives."""

    recipe = DBetaRecipe
    pretraining = DBetaPretraining
    targets = (TEXTS,)
    fitted = (TOKENIZER, NEGATIVES)
    objective_name = "masked modelling of ECGs and reports, matching and contrast (D-BETA)"
    sees = "ECGs, reports"
    leads = LEADS
    licence = "CC BY-NC 4.0: non-commercial"
    is_explained = True
    revision = 2

    def check(self, recipe: DBetaRecipe, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check the number of leads, and that an ECG has tokens, but not more than the decoder has positions for."""
        leads, samples = shapes[recipe.view]
        if leads != len(LEADS):
            raise RecipeError(
                f"the window `{recipe.window}` has {leads} leads: the network reads {len(LEADS)}", "window"
            )
        tokens = recipe.ecg_shape.frames(samples)
        if not 1 <= tokens < POSITIONS:
            sentence = f"the window `{recipe.window}` of {samples} samples gives {tokens} tokens"
            raise RecipeError(f"{sentence}, not 1 to {POSITIONS - 1}", "window", "conv_strides", "conv_kernels")

    def check_pretraining(
        self, recipe: DBetaRecipe, pretraining: DBetaPretraining, shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Check that tokens of an ECG are kept and removed."""
        samples = shapes[recipe.view][1]
        tokens = recipe.ecg_shape.frames(samples)
        if tokens * recipe.samples_per_token > samples:
            raise RecipeError(
                f"{tokens} tokens of {recipe.samples_per_token} samples are more than a window of {samples}, so it "
                "cannot be reconstructed: the convolutions overlap",
                "model.conv_kernels",
                "model.conv_strides",
            )
        if not 0 < pretraining.tokens_kept(tokens) < tokens:
            raise RecipeError(f"of {tokens} tokens, some must be kept and some removed", "ecg_mask", "model.window")

    def classifier(self, recipe: DBetaRecipe, start: "Checkpoint | None", *, seed: int) -> "DBetaClassifier":
        """A linear classifier on the vector of an ECG."""
        from ecg_pipeline.models.d_beta.classifier import d_beta_classifier

        return d_beta_classifier(recipe, start.state() if start else None, seed=seed)

    def objective(
        self,
        recipe: DBetaRecipe,
        pretraining: DBetaPretraining,
        *,
        arrays: "Mapping[str, Mapping[str, ArrayShards]]",
        fitted: Mapping[str, Path],
        table: "pl.DataFrame",
        seed: int,
    ) -> "DBetaObjective":
        """Pretraining of a new network, whose text encoder starts from the tokenizer's T5 folder if it has one."""
        from ecg_pipeline.models.d_beta.objective import d_beta_objective, read_negatives, words_of

        t5 = fitted[TOKENIZER] / "t5"
        return d_beta_objective(
            recipe,
            pretraining,
            words=words_of(arrays[TEXTS]),
            negatives=read_negatives(fitted[NEGATIVES]),
            text_folder=t5 if t5.exists() else None,
            seed=seed,
        )

    def vectors(
        self, recipe: DBetaRecipe, start: "Checkpoint | None", *, vocabulary: int, seed: int, device: str = "cpu"
    ) -> "DBetaVectors":
        """The vectors that the contrast of pretraining (ETS) brings together."""
        from ecg_pipeline.models.d_beta.vectors import d_beta_vectors

        return d_beta_vectors(recipe, start, vocabulary=vocabulary, seed=seed, device=device)

    def import_weights(self, file: Path, recipe: DBetaRecipe, out: Path) -> "Checkpoint":
        """Take over a file of the authors' weights, or the part of it that an ECG goes through."""
        from ecg_pipeline.models.d_beta.checkpoint import import_pretraining

        return import_pretraining(file, recipe, out)

    def export_weights(self, checkpoint: "Checkpoint", path: Path) -> Path:
        """Write a file with the authors' names."""
        from ecg_pipeline.models.d_beta.checkpoint import export_pretraining

        return export_pretraining(checkpoint, path)


FAMILY = DBeta()
