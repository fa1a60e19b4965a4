"""Pretraining and fine-tuning."""

import os

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import Checkpoint, FinetunedModel
from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.assets.published import published_file, published_key, published_names
from ecg_pipeline.orchestration.partitions import fraction_partitions
from ecg_pipeline.orchestration.resources import Build, House, identified
from ecg_pipeline.orchestration.trainer import Order, order_training
from ecg_pipeline.records.store import WaveformStore
from ecg_pipeline.study import Study
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import ImageTokenizer
from ecg_pipeline.tracking import log_classifier
from ecg_pipeline.training.recipes import FINETUNE_REVISION, PRETRAIN_REVISION


def pretraining_asset(study: Study) -> dg.AssetsDefinition:
    """Asset `{model}/pretrained_checkpoint`: trained here, or taken over from a published file."""
    return _imported(study) if study.pretraining.weights else _trained(study)


def _imported(study: Study) -> dg.AssetsDefinition:
    model = study.pretraining.model

    @dg.asset(
        key=[model, "pretrained_checkpoint"],
        group_name="pretraining",
        deps=[published_key(model)],
        kinds={"torch"},
        **identified(PRETRAIN_REVISION, model=study.pretrained_model),
    )
    def pretrained_checkpoint(
        context: dg.AssetExecutionContext, house: dg.ResourceParam[House]
    ) -> dg.MaterializeResult[Checkpoint]:
        """A pretraining checkpoint of BEiT's or HeartBEiT's own scripts, every weight of it or none."""

        def make(build: Build) -> None:
            from ecg_pipeline.models.beit import import_pretraining

            weights = published_file(study, model)
            assert weights is not None  # the study names them
            import_pretraining(weights, study.pretrained_model, build.folder)

        return house.materialise(context, Checkpoint, make, show.pretrained_checkpoint)

    return pretrained_checkpoint


def _trained(study: Study) -> dg.AssetsDefinition:
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
            PRETRAIN_REVISION, model=study.pretrained_model, recipe=study.pretraining.recipe, split=study.split
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
            told = order_training(
                context,
                Order(
                    model=study.pretrained_model,
                    recipe=study.pretraining.recipe,
                    split=study.split,
                    image_shards=image_shards,
                    patch_tokens=patch_tokens,
                    waveform_store=waveform_store,
                    vocabulary=image_tokenizer.vocabulary,
                    out=build.folder,
                    home=house.home,
                    experiment=study.name,
                    tags=build.tags,
                    device=house.device,
                    micro_batch=house.micro_batch,
                    ordered_by=os.getpid(),
                ),
                build.progress,
            )
            build.remember_run(told["mlflow_run_id"], told["page"])

        return house.materialise(context, Checkpoint, make, show.pretrained_checkpoint)

    return pretrained_checkpoint


def finetuning_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/finetuned_model`, by fraction of the training patients."""
    recipe = study.models[model]
    of_task = dg.SpecificPartitionsPartitionMapping(list(study.tasks[task].sites))
    ins = {"cohort": dg.AssetIn(key=[task, "cohort"]), "image_shards": dg.AssetIn(partition_mapping=of_task)}
    is_pretrained = model == study.pretraining.model
    if is_pretrained:
        ins["start"] = dg.AssetIn(key=[model, "pretrained_checkpoint"], dagster_type=Checkpoint)

    @dg.asset(
        key=[task, model, "finetuned_model"],
        group_name=task,
        partitions_def=fraction_partitions(study, task),
        ins=ins,
        deps=[published_key(model)] if model in published_names(study) and not is_pretrained else [],
        kinds={"torch", "mlflow"},
        **identified(FINETUNE_REVISION, model=recipe, recipe=study.finetuning, split=study.split),
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
        start = pretrained.get("start") or published_file(study, model)

        def make(build: Build) -> None:
            from ecg_pipeline.training.finetune import finetune

            build.tags |= {"protocol": study.finetuning.protocol, "optimistic": str(study.finetuning.is_optimistic)}
            with house.training(build) as run:
                tuned = finetune(
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
