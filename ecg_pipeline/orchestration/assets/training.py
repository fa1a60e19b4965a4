"""Pretraining, the published starting points, and fine-tuning."""

from pathlib import Path

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.splits import training_records
from ecg_pipeline.files import sha256_file
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import Checkpoint, FinetunedModel
from ecg_pipeline.models.family import ModelRecipe
from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.partitions import fraction_partitions
from ecg_pipeline.orchestration.resources import Build, House, identified, weights_file
from ecg_pipeline.records.store import WaveformStore
from ecg_pipeline.study import Study
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import ImageTokenizer
from ecg_pipeline.tracking import log_classifier
from ecg_pipeline.training import finetune as finetuning
from ecg_pipeline.training import pretrain as pretraining


def published_key(model: str) -> dg.AssetKey:
    """The source asset of a comparator's starting point."""
    return dg.AssetKey(["published", model])


def published_version(recipe: TimmRecipe) -> str:
    """The data version of a comparator's starting point: the digest of its weights file, or that there is none."""
    weights = published_weights(recipe)
    return sha256_file(weights)[:16] if weights else "random-initialisation"


def published_weights(recipe: ModelRecipe) -> Path | None:
    """The weights file that a comparator starts from, if any."""
    return weights_file(recipe.weights) if isinstance(recipe, TimmRecipe) and recipe.weights else None


def published_assets(study: Study) -> list[dg.SourceAsset]:
    """Source assets `published/{model}`: what the comparators start from."""

    def source(model: str, recipe: TimmRecipe) -> dg.SourceAsset:
        @dg.observable_source_asset(key=published_key(model), group_name="published")
        def published() -> dg.DataVersion:
            """Published weights, versioned by their file's digest, or none: random initialisation."""
            return dg.DataVersion(published_version(recipe))

        return published

    return [source(model, recipe) for model, recipe in study.models.items() if isinstance(recipe, TimmRecipe)]


def pretraining_asset(study: Study) -> dg.AssetsDefinition:
    """Asset `{model}/pretrained_checkpoint`."""
    model = study.pretraining.model
    of_pretraining = dg.SpecificPartitionsPartitionMapping(list(study.pretraining_sites))

    @dg.asset(
        key=[model, "pretrained_checkpoint"],
        group_name="pretraining",
        ins={
            name: dg.AssetIn(partition_mapping=of_pretraining)
            for name in ("image_shards", "patch_tokens", "waveform_store")
        },
        kinds={"torch", "mlflow"},
        **identified(
            pretraining.REVISION, model=study.pretrained_model, recipe=study.pretraining.recipe, split=study.split
        ),
    )
    def pretrained_checkpoint(
        context: dg.AssetExecutionContext,
        house: dg.ResourceParam[House],
        image_shards: dict[str, ImageShards],
        patch_tokens: dict[str, TokenShards],
        image_tokenizer: ImageTokenizer,
        waveform_store: dict[str, WaveformStore],
    ) -> dg.MaterializeResult[Checkpoint]:
        """Masked image modelling over the training patients of the pretraining sites (paper: Pre-training)."""

        def make(build: Build) -> None:
            records = frozenset[str]().union(
                *(training_records(store.records(), study.split) for store in waveform_store.values())
            )
            with house.training(build) as run:
                pretraining.pretrain(
                    study.pretrained_model,
                    study.pretraining.recipe,
                    image_shards,
                    patch_tokens,
                    records,
                    image_tokenizer.vocabulary,
                    build.folder,
                    run,
                    house.device,
                    build.progress,
                )

        return house.materialise(context, Checkpoint, make, show.pretrained_checkpoint)

    return pretrained_checkpoint


def finetuning_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/finetuned_model`, by fraction of the training patients."""
    recipe = study.models[model]
    of_task = dg.SpecificPartitionsPartitionMapping(list(study.tasks[task].sites))
    ins = {"cohort": dg.AssetIn(key=[task, "cohort"]), "image_shards": dg.AssetIn(partition_mapping=of_task)}
    if model == study.pretraining.model:
        ins["start"] = dg.AssetIn(key=[model, "pretrained_checkpoint"], dagster_type=Checkpoint)

    @dg.asset(
        key=[task, model, "finetuned_model"],
        group_name=task,
        partitions_def=fraction_partitions(study, task),
        ins=ins,
        deps=[published_key(model)] if isinstance(recipe, TimmRecipe) else [],
        kinds={"torch", "mlflow"},
        **identified(finetuning.REVISION, model=recipe, recipe=study.finetuning, split=study.split),
    )
    def finetuned_model(
        context: dg.AssetExecutionContext,
        house: dg.ResourceParam[House],
        cohort: Cohort,
        image_shards: dict[str, ImageShards],
        **pretrained: Checkpoint,
    ) -> dg.MaterializeResult[FinetunedModel]:
        """One model for one task, fine-tuned on one fraction of the training patients (paper: Fine-tuning)."""
        train, selection = _examples(cohort, study, float(context.partition_key))
        start = pretrained.get("start") or published_weights(recipe)

        def make(build: Build) -> None:
            build.tags |= {"protocol": study.finetuning.protocol, "optimistic": str(study.finetuning.is_optimistic)}
            with house.training(build) as run:
                tuned = finetuning.finetune(
                    recipe,
                    study.finetuning,
                    start,
                    image_shards,
                    train,
                    selection,
                    build.folder,
                    run,
                    house.device,
                    build.progress,
                )
                first, example = next(iter(tuned.checkpoints().values())), train.row(0, named=True)
                sheets = image_shards[example["site"]].read_records([example["record"]])
                log_classifier(f"{task}-{model}", first, sheets)

        return house.materialise(context, FinetunedModel, make, show.finetuned_model)

    return finetuned_model


def _examples(cohort: Cohort, study: Study, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Who is trained on, and on whom the epoch is chosen. Only the official protocol is handed test patients."""
    if study.finetuning.chosen_on == "test":
        return cohort.train_and_validation(fraction, study.split), cohort.test_inside()
    return cohort.train(fraction), cohort.validation()
