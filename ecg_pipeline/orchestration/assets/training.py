"""Pretraining and fine-tuning."""

import os
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.pretraining_set import (
    COLUMNS,
    TOKENIZER,
    UNKNOWN,
    copy_training_sets,
    pretraining_set,
    read_training_set,
    record_training_set,
    save_training_set,
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
    """Asset `{model}/pretrained_checkpoint`: trained here, or imported from a published file."""
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
        """A pretraining checkpoint of BEiT's or HeartBEiT's own scripts, imported with all its weights."""

        def make(build: Build) -> None:
            from ecg_pipeline.models.beit import import_pretraining

            weights = published_file(study, model)
            assert weights is not None  # the study names them
            import_pretraining(weights, study.pretrained_model, build.folder)
            record_training_set(build.folder, network=None)

        yield from workspace.materialise(context, Checkpoint, make=make, metadata_of=metadata.pretrained_checkpoint)

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
            ecgs = pretraining_set((store.ecgs() for store in waveform_store.values()), study.split)
            seen_by_tokenizer = read_training_set(image_tokenizer.folder)
            if seen_by_tokenizer is not None:
                save_training_set(build.folder / TOKENIZER, seen_by_tokenizer)
            result = run_training_job(
                context,
                TrainingJob(
                    model=study.pretrained_model,
                    recipe=study.pretraining.recipe,
                    image_shards=image_shards,
                    patch_tokens=patch_tokens,
                    training_set=save_training_set(build.folder, ecgs),
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
            record_training_set(build.folder, network=ecgs, tokenizer=seen_by_tokenizer)
            build.note_mlflow_run(result["mlflow_run_id"], result["page"])

        yield from workspace.materialise(context, Checkpoint, make=make, metadata_of=metadata.pretrained_checkpoint)

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
                copy_training_sets(start.folder, to=build.folder)
            build.tags |= {"protocol": study.finetuning.protocol, "optimistic": str(study.finetuning.is_optimistic)}
            with workspace.training(build) as run:
                tuned = finetune(
                    recipe,
                    study.finetuning,
                    start=start,
                    images=image_shards,
                    train=train,
                    selection=selection,
                    out=build.folder,
                    tracker=run,
                    device=workspace.device,
                    progress=build.progress,
                )
                first = next(iter(tuned.checkpoints().values()))
                log_classifier(f"{task}-{model}", first, sheet=study.sheet, filters=study.filters)

        yield from workspace.materialise(
            context,
            FinetunedModel,
            make=make,
            metadata_of=metadata.finetuned_model,
            check=lambda made: _finetuning_checks(made, study, cohort, start),
        )

    return finetuned_model


def _finetuning_checks(
    made: FinetunedModel, study: Study, cohort: Cohort, start: Checkpoint | Path | None
) -> Iterator[dg.AssetCheckResult]:
    """Check that a model has not seen held-out ECGs, and how its epochs were chosen."""
    held_out = cohort.table().filter(pl.col("split") != TRAIN)
    yield pretraining_never_saw_it(start, held_out)
    if study.finetuning.is_optimistic:
        held_out = held_out.filter(pl.col("split") != VALIDATION)
    trained_on = pl.read_parquet(made.folder / TRAINED_ON)
    yield check_result("training_never_saw_it", leaks.seen_before(held_out, seen=trained_on, by="the fine-tuning"))
    yield _chosen_on_validation(made, study)


def _examples(cohort: Cohort, study: Study, fraction: float) -> tuple[pl.DataFrame, pl.DataFrame]:
    """ECGs to train on, and those to choose the epoch on, which are test ECGs under the official protocol only."""
    if study.finetuning.chosen_on == "test":
        return cohort.train_and_validation(fraction, study.split), cohort.test_internal()
    return cohort.train(fraction), cohort.validation()


def pretraining_never_saw_it(start: Checkpoint | Path | None, held_out: pl.DataFrame) -> dg.AssetCheckResult:
    """Check that the pretrained model has not seen held-out ECGs, by the training set stored beside it."""
    if start is None:
        return check_result("pretraining_never_saw_it", [], note=f"nothing was pretrained: {RANDOM}")
    folder = start.folder if isinstance(start, Checkpoint) else start
    return seen_in_pretraining("pretraining_never_saw_it", folder, held_out)


def seen_in_pretraining(check: str, folder: Path, held_out: pl.DataFrame) -> dg.AssetCheckResult:
    """Check that a network and its tokenizer have not seen held-out ECGs, by the training sets in its folder."""
    by_network, by_tokenizer = read_training_set(folder), read_training_set(folder / TOKENIZER)
    if by_network is None:
        return check_result(check, [], note=UNKNOWN, warns=True)
    found = leaks.seen_before(held_out, seen=by_network, by="the pretraining")
    if by_tokenizer is None:
        return check_result(check, found, note=f"what the tokenizer saw is {UNKNOWN}", warns=True)
    found += leaks.seen_before(held_out, seen=by_tokenizer, by="the tokenizer")
    return check_result(check, found, note=f"{len(by_network)} ECGs were pretrained on")


def _chosen_on_validation(made: FinetunedModel, study: Study) -> dg.AssetCheckResult:
    """Check that the chosen epoch of every seed is the best one of its trace."""
    found = []
    for seed, checkpoint in made.checkpoints().items():
        trace, epoch = pl.read_parquet(checkpoint.folder / "trace.parquet"), checkpoint.config()["chosen_epoch"]
        sentences = leaks.wrongly_chosen(trace, chosen_epoch=epoch, chosen_on=study.finetuning.chosen_on)
        found += [f"seed {seed}: {sentence}" for sentence in sentences]
    is_optimistic = study.finetuning.is_optimistic
    return check_result("chosen_on_validation", found, note=OPTIMISTIC if is_optimistic else "", warns=is_optimistic)
