"""Pretraining and fine-tuning."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.pool import (
    COLUMNS,
    TOKENIZER,
    UNKNOWN,
    hand_on_pools,
    keep_pool,
    pretraining_pool,
    read_pool,
    record_training_set,
)
from ecg_pipeline.cohorts.splits import TRAIN, VALIDATION
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.checkpoints import Checkpoint, FinetunedModel
from ecg_pipeline.models.recipes import RANDOM
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.published import published_file, published_key, published_names
from ecg_pipeline.orchestration.checks import blocking_checks, check_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import TRAINING
from ecg_pipeline.orchestration.partitions import fraction_partitions
from ecg_pipeline.orchestration.resources import Build, Events, Workspace
from ecg_pipeline.orchestration.trainer import TrainingJob, run_training_job
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.study import Study
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import ImageTokenizer
from ecg_pipeline.tracking import log_classifier
from ecg_pipeline.training.recipes import FINETUNE_REVISION, OPTIMISTIC, PRETRAIN_REVISION

TRAINED_ON = "trained_on.parquet"
"""File beside a fine-tuned model: the ECGs that it was fine-tuned on."""


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
    def pretrained_checkpoint(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """A pretraining checkpoint of BEiT's or HeartBEiT's own scripts, every weight of it or none."""

        def make(build: Build) -> None:
            from ecg_pipeline.models.beit import import_pretraining

            weights = published_file(study, model)
            assert weights is not None  # the study names them
            import_pretraining(weights, study.pretrained_model, build.folder)
            record_training_set(build.folder, network=None)

        yield from workspace.materialise(context, Checkpoint, make, metadata.pretrained_checkpoint)

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
        pool=TRAINING,
        **identified(
            PRETRAIN_REVISION, model=study.pretrained_model, recipe=study.pretraining.recipe, split=study.split
        ),
    )
    def pretrained_checkpoint(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        image_shards: dict[str, ImageShards],
        patch_tokens: dict[str, TokenShards],
        image_tokenizer: ImageTokenizer,
        waveform_store: dict[str, WaveformStore],
    ) -> Events:
        """Masked image modelling over the training patients of the pretraining sites (paper: Pre-training)."""

        def make(build: Build) -> None:
            pool = pretraining_pool((store.records() for store in waveform_store.values()), study.split)
            named_by = read_pool(image_tokenizer.folder)
            if named_by is not None:
                keep_pool(build.folder / TOKENIZER, named_by)
            result = run_training_job(
                context,
                TrainingJob(
                    model=study.pretrained_model,
                    recipe=study.pretraining.recipe,
                    image_shards=image_shards,
                    patch_tokens=patch_tokens,
                    pool=keep_pool(build.folder, pool),
                    vocabulary=image_tokenizer.vocabulary,
                    out=build.folder,
                    home=workspace.home,
                    experiment=study.name,
                    tags=build.tags,
                    device=workspace.device,
                    micro_batch=workspace.execution.micro_batch,
                    processes=workspace.execution.processes,
                    parent_pid=os.getpid(),
                ),
                build.progress,
            )
            record_training_set(build.folder, network=pool, tokenizer=named_by)
            build.remember_run(result["mlflow_run_id"], result["page"])

        yield from workspace.materialise(context, Checkpoint, make, metadata.pretrained_checkpoint)

    return pretrained_checkpoint


def finetuning_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/finetuned_model`, by fraction of the training patients."""
    recipe = study.models[model]
    of_task = dg.SpecificPartitionsPartitionMapping(list(study.tasks[task].sites))
    ins = {"cohort": dg.AssetIn(key=[task, "cohort"]), "image_shards": dg.AssetIn(partition_mapping=of_task)}
    partitions, is_pretrained = fraction_partitions(study, task), model == study.pretraining.model
    if is_pretrained:
        ins["start"] = dg.AssetIn(key=[model, "pretrained_checkpoint"], dagster_type=Checkpoint)

    @dg.asset(
        key=[task, model, "finetuned_model"],
        group_name=task,
        partitions_def=partitions,
        ins=ins,
        deps=[published_key(model)] if model in published_names(study) and not is_pretrained else [],
        check_specs=blocking_checks(
            [task, model, "finetuned_model"],
            "pretraining_never_saw_it",
            "training_never_saw_it",
            "chosen_on_validation",
            partitions=partitions,
        ),
        kinds={"torch", "mlflow"},
        pool=TRAINING,
        **identified(FINETUNE_REVISION, model=recipe, recipe=study.finetuning, split=study.split),
    )
    def finetuned_model(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        cohort: Cohort,
        image_shards: dict[str, ImageShards],
        **pretrained: Checkpoint,
    ) -> Events:
        """One model for one task, fine-tuned on one fraction of the training patients (paper: Fine-tuning)."""
        train, selection = _examples(cohort, study, float(context.partition_key))
        start = pretrained.get("start") or published_file(study, model)

        def make(build: Build) -> None:
            from ecg_pipeline.training.finetune import finetune

            write_parquet(build.folder / TRAINED_ON, train.select(COLUMNS))
            if isinstance(start, Checkpoint):
                hand_on_pools(start.folder, build.folder)
            build.tags |= {"protocol": study.finetuning.protocol, "optimistic": str(study.finetuning.is_optimistic)}
            with workspace.training(build) as run:
                tuned = finetune(
                    recipe,
                    study.finetuning,
                    start,
                    image_shards,
                    train,
                    selection,
                    build.folder,
                    run,
                    workspace.device,
                    build.progress,
                )
                first = next(iter(tuned.checkpoints().values()))
                log_classifier(f"{task}-{model}", first, study.sheet, study.filters)

        def check(made: FinetunedModel) -> Iterator[dg.AssetCheckResult]:
            kept = cohort.table().filter(pl.col("part") != TRAIN)
            yield pretraining_never_saw_it(start, kept)
            untrained = kept.filter(pl.col("part") != VALIDATION) if study.finetuning.is_optimistic else kept
            trained_on = pl.read_parquet(made.folder / TRAINED_ON)
            yield check_result("training_never_saw_it", leaks.seen_before(trained_on, untrained, "the fine-tuning"))
            yield _chosen_on_validation(made, study)

        yield from workspace.materialise(context, FinetunedModel, make, metadata.finetuned_model, check)

    return finetuned_model


def _examples(cohort: Cohort, study: Study, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """ECGs to train on, and those to choose the epoch on: test patients under the official protocol alone."""
    if study.finetuning.chosen_on == "test":
        return cohort.train_and_validation(fraction, study.split), cohort.test_inside()
    return cohort.train(fraction), cohort.validation()


def pretraining_never_saw_it(start: Checkpoint | Path | None, kept: pl.DataFrame) -> dg.AssetCheckResult:
    """Check that the ECGs kept from training are new to the pretrained model, by the record beside it."""
    if start is None:
        return check_result("pretraining_never_saw_it", [], f"nothing was pretrained: {RANDOM}")
    return seen_in_pools("pretraining_never_saw_it", start.folder if isinstance(start, Checkpoint) else start, kept)


def seen_in_pools(check: str, folder: Path, kept: pl.DataFrame) -> dg.AssetCheckResult:
    """Check that ECGs are new to a network and its tokenizer, by the training sets in its folder."""
    pool = read_pool(folder)
    if pool is None:
        return check_result(check, [], UNKNOWN, warns=True)
    found, named_by = leaks.seen_before(pool, kept, "the pretraining"), read_pool(folder / TOKENIZER)
    if named_by is None:
        return check_result(check, found, f"what the tokenizer saw is {UNKNOWN}", warns=True)
    found += leaks.seen_before(named_by, kept, "the tokenizer")
    return check_result(check, found, f"{len(pool)} ECGs were pretrained on")


def _chosen_on_validation(made: FinetunedModel, study: Study) -> dg.AssetCheckResult:
    """Check that every seed's epoch is the best one of its trace."""
    found = []
    for seed, checkpoint in made.checkpoints().items():
        trace, epoch = pl.read_parquet(checkpoint.folder / "trace.parquet"), checkpoint.config()["chosen_epoch"]
        sentences = leaks.wrongly_chosen(trace, epoch, study.finetuning.chosen_on)
        found += [f"seed {seed}: {sentence}" for sentence in sentences]
    is_optimistic = study.finetuning.is_optimistic
    return check_result("chosen_on_validation", found, OPTIMISTIC if is_optimistic else "", warns=is_optimistic)
