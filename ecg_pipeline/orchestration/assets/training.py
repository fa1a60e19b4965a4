"""Pretraining and fine-tuning."""

import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.pretraining_set import (
    COLUMNS,
    NETWORK,
    UNKNOWN,
    copy_training_sets,
    pretraining_set,
    save_training_set,
    training_sets,
)
from ecg_pipeline.cohorts.splits import TRAIN, VALIDATION
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.start import start_words
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.answers import pretraining_saw_no_answers
from ecg_pipeline.orchestration.assets.features import features_key
from ecg_pipeline.orchestration.assets.fitting import finetune, probe
from ecg_pipeline.orchestration.assets.published import published_key, published_names, weights_file
from ecg_pipeline.orchestration.assets.views import example_of, input_name, view_key
from ecg_pipeline.orchestration.checks import blocking_checks, check_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import TRAINING
from ecg_pipeline.orchestration.partitions import fraction_partitions
from ecg_pipeline.orchestration.resources import Build, Events, Workspace
from ecg_pipeline.orchestration.trainer import TrainingJob, run_training_job
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.storage.files import sha256_file, write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.study import Study
from ecg_pipeline.tracking import log_classifier
from ecg_pipeline.training.checkpoints import PUBLISHED, FinetunedModel, PretrainedModel
from ecg_pipeline.training.features import Features
from ecg_pipeline.training.recipes import (
    FINETUNE_REVISION,
    IMPORT_REVISION,
    OPTIMISTIC,
    PRETRAIN_REVISION,
    PROBE_REVISION,
    FinetuneRecipe,
    ProbeRecipe,
)

TRAINED_ON = "trained_on.parquet"
"""File beside a fine-tuned model: the ECGs that it was fine-tuned on."""


def pretraining_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `{model}/pretrained_checkpoint`: trained here, or taken over from a published file."""
    return [(_published if section.weights else _trained)(study, model) for model, section in study.pretraining.items()]


def _published(study: Study, model: str) -> dg.AssetsDefinition:
    family, recipe = study.family(model), study.recipes[model]

    @dg.asset(
        key=[model, "pretrained_checkpoint"],
        group_name="pretraining",
        deps=[published_key(model)],
        kinds={"torch"},
        **identified(IMPORT_REVISION, model=recipe, sees=family.sees, licence=family.licence),
    )
    def pretrained_checkpoint(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """A file of published weights, taken over as it is."""

        def make(build: Build) -> None:
            file = weights_file(published_names(study)[model])
            imported = family.import_weights(file, recipe, build.folder / PUBLISHED)
            save_training_set(build.folder, NETWORK, None)
            config = {"sees": family.sees, "licence": family.licence, **imported.config(), "sha256": sha256_file(file)}
            write_json(build.folder / "config.json", {**config, "checkpoints": [PUBLISHED]})

        yield from workspace.materialise(
            context, PretrainedModel, make=make, metadata_of=metadata.pretrained_checkpoint
        )

    return pretrained_checkpoint


def _trained(study: Study, model: str) -> dg.AssetsDefinition:
    family, recipe, pretraining = study.family(model), study.recipes[model], study.pretraining[model].recipe
    assert pretraining is not None  # the study trains this model
    of_pretraining = dg.SpecificPartitionsPartitionMapping(list(study.pretraining_sites))
    read = (recipe.view, *family.targets)

    @dg.asset(
        key=[model, "pretrained_checkpoint"],
        group_name="pretraining",
        ins={
            "waveform_store": dg.AssetIn(partition_mapping=of_pretraining),
            **{
                input_name(name): dg.AssetIn(
                    key=view_key(name), partition_mapping=of_pretraining, dagster_type=dict[str, ArrayShards]
                )
                for name in read
            },
            **{name: dg.AssetIn(dagster_type=Path) for name in family.fitted},
        },
        check_specs=blocking_checks([model, "pretrained_checkpoint"], CHECK),
        kinds={"torch", "mlflow"},
        pool=TRAINING,
        **identified(PRETRAIN_REVISION + family.revision, model=recipe, recipe=pretraining, split=study.split),
    )
    def pretrained_checkpoint(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        **inputs: Any,
    ) -> Events:
        """Pretraining over the training patients of the pretraining sites, once per seed (paper: Pre-training)."""

        def make(build: Build) -> None:
            ecgs = pretraining_set((store.ecgs() for store in waveform_store.values()), study.split)
            for name in family.fitted:
                save_training_set(build.folder, name, training_sets(inputs[name])[name])
            result = run_training_job(
                context,
                TrainingJob(
                    model=asdict(recipe),  # type: ignore[call-overload]
                    pretraining=asdict(pretraining),
                    arrays={name: inputs[input_name(name)] for name in read},
                    fitted={name: inputs[name] for name in family.fitted},
                    training_set=save_training_set(build.folder, NETWORK, ecgs),
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
            build.note_mlflow_run(result["mlflow_run_id"], result["page"])

        yield from workspace.materialise(
            context,
            PretrainedModel,
            make=make,
            metadata_of=metadata.pretrained_checkpoint,
            check=lambda made: [no_withdrawn_patients(study, workspace.home, made.folder)],
        )

    return pretrained_checkpoint


def finetuning_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/finetuned_model`, by fraction of the training patients.

    A frozen arm reads features in place of the view that they were extracted from.
    """
    recipe, tuning, start_of = study.recipes[model], study.tuning(model), study.starts_from(model)
    probed = study.probe_of(model)
    key, handle = (features_key(probed), Features) if probed else (view_key(recipe.view), ArrayShards)
    of_task = dg.SpecificPartitionsPartitionMapping(list(study.tasks[task].sites))
    partitions = fraction_partitions(study, task)
    ins = {
        "cohort": dg.AssetIn(key=[task, "cohort"]),
        "read": dg.AssetIn(key=key, partition_mapping=of_task, dagster_type=dict[str, handle]),
    }
    if start_of:
        ins["start"] = dg.AssetIn(key=[start_of, "pretrained_checkpoint"], dagster_type=PretrainedModel)

    @dg.asset(
        key=[task, model, "finetuned_model"],
        group_name=task,
        partitions_def=partitions,
        ins=ins,
        check_specs=blocking_checks(
            [task, model, "finetuned_model"],
            "pretraining_never_saw_it",
            "pretraining_saw_no_answers",
            "training_never_saw_it",
            "chosen_on_validation",
            CHECK,
            partitions=partitions,
        ),
        kinds={"torch", "mlflow"},
        pool=TRAINING,
        **identified(
            (PROBE_REVISION if probed else FINETUNE_REVISION) + study.family(model).revision,
            model=recipe,
            recipe=tuning,
            split=study.split,
        ),
    )
    def finetuned_model(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        cohort: Cohort,
        read: dict[str, Any],
        **pretrained: PretrainedModel,
    ) -> Events:
        """One model for one task, fitted to one fraction of the training patients (paper: Fine-tuning)."""
        train, selection = _examples(cohort, study, tuning, float(context.partition_key))
        start = pretrained.get("start")

        def make(build: Build) -> None:
            from ecg_pipeline.models.load import classifier_facts

            write_parquet(build.folder / TRAINED_ON, train.select(COLUMNS))
            if start:
                copy_training_sets(start.folder, to=build.folder)
            facts = classifier_facts(recipe, start, tuning.seeds)
            build.tags |= {"protocol": tuning.protocol, "optimistic": str(tuning.is_optimistic)}
            build.tags |= start_words({**facts, "finetuning": asdict(tuning)})
            with workspace.training(build) as run:
                fit = probe if probed else partial(finetune, device=workspace.device)
                tuned = fit(
                    recipe,
                    tuning,  # type: ignore[arg-type]
                    read=read,
                    start=start,
                    train=train,
                    selection=selection,
                    facts=facts,
                    out=build.folder,
                    tracker=run,
                    progress=build.progress,
                )
                if not tuned.not_trained:
                    first = next(iter(tuned.checkpoints().values()))
                    build.mlflow_model_id = log_classifier(f"{task}-{model}", first, example_of(study, recipe.view))

        yield from workspace.materialise(
            context,
            FinetunedModel,
            make=make,
            metadata_of=metadata.finetuned_model,
            check=lambda made: [
                *_finetuning_checks(made, tuning, cohort),
                pretraining_saw_no_answers(made, study.tasks[task].rule),
                no_withdrawn_patients(study, workspace.home, made.folder),
            ],
        )

    return finetuned_model


def _finetuning_checks(
    made: FinetunedModel, tuning: FinetuneRecipe | ProbeRecipe, cohort: Cohort
) -> Iterator[dg.AssetCheckResult]:
    """Check that a model has not seen held-out ECGs, and how its epochs, or the C of a probe, were chosen."""
    held_out = cohort.table().filter(pl.col("split") != TRAIN)
    yield pretraining_never_saw_it(made, held_out)
    if tuning.is_optimistic:
        held_out = held_out.filter(pl.col("split") != VALIDATION)
    trained_on = pl.read_parquet(made.folder / TRAINED_ON)
    yield check_result("training_never_saw_it", leaks.seen_before(held_out, seen=trained_on, by="the fine-tuning"))
    yield _chosen_on_validation(made, tuning)


def _examples(
    cohort: Cohort, study: Study, tuning: FinetuneRecipe | ProbeRecipe, fraction: float
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """ECGs to train on, and those to choose on, which are test ECGs under the official protocol only."""
    if tuning.chosen_on == "test":
        return cohort.train_and_validation(fraction, study.split), cohort.test_internal()
    return cohort.train(fraction), cohort.validation()


def pretraining_never_saw_it(model: FinetunedModel | PretrainedModel, held_out: pl.DataFrame) -> dg.AssetCheckResult:
    """Check that a pretrained network, or the one that a model started from, has not seen held-out ECGs, nor has what
    was fitted for it.

    Their training sets are stored beside the model; those of other models do not count.
    """
    check = "pretraining_never_saw_it"
    if model.config().get("initialisation") == RANDOM:
        return check_result(check, [], note=f"nothing was pretrained: {RANDOM}")
    sets = training_sets(model.folder)
    found = [
        sentence
        for name, seen in sets.items()
        if seen is not None
        for sentence in leaks.seen_before(
            held_out, seen=seen, by="the pretraining" if name == NETWORK else f"the {name.replace('_', ' ')}"
        )
    ]
    if unknown := [name.replace("_", " ") for name, seen in sets.items() if seen is None]:
        return check_result(check, found, note=f"what the {' and the '.join(unknown)} saw is {UNKNOWN}", warns=True)
    return check_result(check, found, note=f"{len(sets[NETWORK])} ECGs were pretrained on")  # type: ignore[arg-type]


def _chosen_on_validation(made: FinetunedModel, tuning: FinetuneRecipe | ProbeRecipe) -> dg.AssetCheckResult:
    """Check that the chosen epoch, or C, of every seed is the best one of its trace."""
    found = []
    for seed, checkpoint in made.checkpoints().items():
        trace = pl.read_parquet(checkpoint.folder / "trace.parquet")
        chosen = checkpoint.config()[f"chosen_{tuning.chosen}"]
        sentences = leaks.wrongly_chosen(trace, chosen=chosen, chosen_on=tuning.chosen_on)
        found += [f"seed {seed}: {sentence}" for sentence in sentences]
    note = made.not_trained or (OPTIMISTIC if tuning.is_optimistic else "")
    return check_result("chosen_on_validation", found, note=note, warns=tuning.is_optimistic)
