"""Evaluation at each hospital, and the reports."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
import polars as pl

from ecg_pipeline.cohorts import leaks
from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.pretraining_set import NETWORK, training_counts
from ecg_pipeline.cohorts.test_set import TestSet
from ecg_pipeline.evaluation import evaluate as evaluating
from ecg_pipeline.evaluation.evaluate import evaluate
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.evaluation.zero_shot import ZeroShot
from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.images.distance import ImageDistance
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.metrics.table import METRICS
from ecg_pipeline.models.family import windows
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.training import TRAINED_ON, pretraining_never_saw_it
from ecg_pipeline.orchestration.assets.zero_shot import zero_shot_key
from ecg_pipeline.orchestration.checks import blocking_checks, check_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.partitions import FRACTION, SITE, dimensions, evaluation_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.reporting import page as reporting
from ecg_pipeline.reporting.page import write_report
from ecg_pipeline.reporting.results import Background, PretrainingCost, Report, TaskResults
from ecg_pipeline.reporting.words import outcome
from ecg_pipeline.study import Study
from ecg_pipeline.training.checkpoints import COST, FinetunedModel, PretrainedModel
from ecg_pipeline.training.recipes import ProbeRecipe


def evaluation_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/evaluation`, by site and fraction; an external hospital is its own partition."""
    partitions, view = evaluation_partitions(study, task), study.recipes[model].view

    @dg.asset(
        key=[task, model, "evaluation"],
        group_name=task,
        partitions_def=partitions,
        ins={
            "finetuned_model": dg.AssetIn(
                key=[task, model, "finetuned_model"],
                partition_mapping=dg.MultiToSingleDimensionPartitionMapping(FRACTION),
            ),
            "test_set": dg.AssetIn(
                key=[task, "test_set"], partition_mapping=dg.MultiToSingleDimensionPartitionMapping(SITE)
            ),
        },
        check_specs=blocking_checks(
            [task, model, "evaluation"],
            "training_never_saw_it",
            "pretraining_never_saw_it",
            CHECK,
            partitions=partitions,
        ),
        kinds={"parquet"},
        **identified(evaluating.REVISION, evaluation=study.evaluation, metrics=[metric.name for metric in METRICS]),
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        finetuned_model: FinetunedModel,
        test_set: TestSet,
    ) -> Events:
        """Predictions, metrics with intervals and curves on one hospital's test or external patients."""
        asset, tested = context.asset_key.to_user_string(), test_set.table()
        yield from workspace.materialise(
            context,
            Evaluation,
            make=lambda build: evaluate(
                finetuned_model,
                test_set.view(view),
                tested,
                recipe=study.evaluation,
                out=build.folder,
                device=workspace.device,
                progress=build.progress,
            ),
            metadata_of=metadata.evaluation,
            metadata_now=lambda: {"evaluation_count": workspace.archive.times(asset, context.partition_key)},
            check=lambda made: [
                *_leak_checks(finetuned_model, tested),
                no_withdrawn_patients(study, workspace.home, made.folder, finetuned_model.folder),
            ],
        )

    return evaluation


def _leak_checks(model: FinetunedModel, tested: pl.DataFrame) -> Iterator[dg.AssetCheckResult]:
    """Check that no tested ECG was used to fine-tune or pretrain the model."""
    found = leaks.seen_before(tested, seen=pl.read_parquet(model.folder / TRAINED_ON), by="the fine-tuning")
    yield check_result("training_never_saw_it", found)
    yield pretraining_never_saw_it(model, tested)


def report_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/report`."""
    return _report_asset(
        study, tasks=[task], key=dg.AssetKey([task, "report"]), title=study.tasks[task].title, group=task
    )


def benchmark_asset(study: Study) -> dg.AssetsDefinition:
    """Asset `benchmark_report`: all tasks on one page."""
    return _report_asset(
        study, tasks=list(study.tasks), key=dg.AssetKey("benchmark_report"), title=study.title, group="benchmark"
    )


def _report_asset(study: Study, *, tasks: list[str], key: dg.AssetKey, title: str, group: str) -> dg.AssetsDefinition:
    """Report asset over some of the tasks. Its inputs are named after task and model."""
    sites = sorted({site for task in tasks for site in (*study.tasks[task].sites, *study.tasks[task].external)})
    inputs = {
        f"{task}__{model}": dg.AssetIn(key=[task, model, "evaluation"], dagster_type=dict[str, Evaluation])
        for task in tasks
        for model in study.models_of(task)
    }
    tried = [(task, model) for task in tasks for model in study.zero_shot_networks(task)]
    zero_shots = {
        f"zero_shot_{number}": dg.AssetIn(key=zero_shot_key(*pair), dagster_type=dict[str, ZeroShot])
        for number, pair in enumerate(tried)
    }
    cohorts = {f"{task}__cohort": dg.AssetIn(key=[task, "cohort"], dagster_type=Cohort) for task in tasks}
    saliencies = {f"{task}__saliency": dg.AssetIn(key=[task, "saliency"], dagster_type=Saliency) for task in tasks}
    stores = {"waveform_store": dg.AssetIn(partition_mapping=dg.SpecificPartitionsPartitionMapping(sites))}
    pretrained = {
        f"{model}__pretrained": dg.AssetIn(key=[model, "pretrained_checkpoint"], dagster_type=PretrainedModel)
        for model in study.pretraining
    }
    distance = {"image_distance": dg.AssetIn(dagster_type=ImageDistance)} if study.has_images else {}

    @dg.asset(
        key=key,
        group_name=group,
        ins={**inputs, **zero_shots, **cohorts, **saliencies, **stores, **pretrained, **distance},
        kinds={"html"},
        **identified(
            reporting.REVISION,
            title=title,
            paper=study.paper,
            tasks={task: study.tasks[task] for task in tasks},
            sites={name: (site.title, site.role) for name, site in study.sites.items()},
            sheet=study.sheet,
            windows=study.windows,
            models=study.models,
            tokenizer=study.tokenizer,
            pretraining=study.pretraining,
            split=study.split,
            finetuning=study.finetuning,
            evaluation=study.evaluation,
            comparisons=study.comparisons,
            metrics=[metric.label for metric in METRICS],
        ),
    )
    def report(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        **made: Any,
    ) -> Events:
        """Tables and figures with internal and external results side by side, as one page that opens from disk."""
        evaluations = {task: {model: made[f"{task}__{model}"] for model in study.models_of(task)} for task in tasks}
        results = [
            _task_results(
                workspace,
                task,
                evaluations=evaluations[task],
                cohort=made[f"{task}__cohort"],
                saliency=made[f"{task}__saliency"],
                stores=waveform_store,
                zero_shots={
                    (model, site): one
                    for number, (of, model) in enumerate(tried)
                    if of == task
                    for site, one in made[f"zero_shot_{number}"].items()
                },
            )
            for task in tasks
        ]
        background = _background(
            workspace,
            pretrained={model: made[f"{model}__pretrained"] for model in study.pretraining},
            distance=made.get("image_distance"),
            stores=waveform_store,
        )
        facts = {"Study": study.name, "Study fingerprint": study.fingerprint()}
        yield from workspace.materialise(
            context,
            Report,
            make=lambda build: write_report(title, results, background, facts=facts, out=build.folder),
            metadata_of=lambda made: metadata.report(made, workspace.home),
        )

    return report


def _task_results(
    workspace: Workspace,
    task: str,
    *,
    evaluations: Mapping[str, Mapping[str, Evaluation]],
    cohort: Cohort,
    saliency: Saliency,
    stores: Mapping[str, WaveformStore],
    zero_shots: Mapping[tuple[str, str], ZeroShot],
) -> TaskResults:
    """The results of a task for its report. evaluations: by model and partition."""
    study, recipe = workspace.study, workspace.study.tasks[task]
    partitions, sites = evaluation_partitions(study, task), (*recipe.sites, *recipe.external)
    by_key, evaluation_counts, thread_seconds = {}, {}, {}
    for model, by_partition in evaluations.items():
        for partition, evaluation in by_partition.items():
            cut = dimensions(partitions, partition)
            key = model, float(cut[FRACTION]), cut[SITE]
            by_key[key] = evaluation
            trained = f"{task}/{model}/finetuned_model", cut[FRACTION]
            if (seconds := _thread_seconds(workspace, *trained)) is not None:
                thread_seconds[key[:2]] = seconds
            evaluation_counts[key] = workspace.archive.times(f"{task}/{model}/evaluation", partition)
    return TaskResults(
        name=task,
        title=recipe.title,
        outcome=outcome(recipe.rule),
        evaluations=by_key,
        evaluation_counts=evaluation_counts,
        flow=cohort.flow(),
        rejects={site: dict(stores[site].rejects().group_by("reason").len().iter_rows()) for site in sites},
        roles={site: study.sites[site].role for site in sites},
        titles={site: study.sites[site].title for site in sites},
        saliency=saliency,
        pairs=study.planned_pairs(task),
        thread_seconds=thread_seconds,
        zero_shots=zero_shots,
    )


def _thread_seconds(workspace: Workspace, asset: str, partition: str | None = None) -> float | None:
    """Seconds of a thread that the newest output took to make; of a training that was killed, from its last start."""
    record = workspace.archive.newest(asset, partition)
    return record.seconds * record.hardware.get("threads", 1) if record else None


def _pretraining_cost(workspace: Workspace, model: str, made: PretrainedModel) -> PretrainingCost:
    config = made.config()
    stated = {name: config.get(name) for name in COST}
    seconds = _thread_seconds(workspace, f"{model}/pretrained_checkpoint")
    return PretrainingCost(**stated, seeds=len(config["checkpoints"]), thread_seconds=seconds)


def _background(
    workspace: Workspace,
    *,
    pretrained: Mapping[str, PretrainedModel],
    distance: ImageDistance | None,
    stores: Mapping[str, WaveformStore],
) -> Background:
    study = workspace.study
    traces = {model: made.checkpoints()[0].folder / "trace.parquet" for model, made in pretrained.items()}
    dates = (
        pl.concat([store.scan().select("acquired_at") for store in stores.values()])
        .collect()
        .to_series()
        .drop_nulls()
        .sort()
    )
    return Background(
        paper=study.paper,
        synthetic=study.is_synthetic,
        reference=next(iter(study.trained_here), next(iter(study.models))),
        sheet=study.sheet if study.has_images else None,
        windows={name: recipe for name, recipe in study.windows.items() if windows(name) in study.views},
        models=study.recipes,
        tokenizer=study.tokenizer if study.fitted else None,
        pretraining={model: section.recipe for model, section in study.pretraining.items()},
        pretraining_traces={model: pl.read_parquet(trace) for model, trace in traces.items() if trace.exists()},
        pretrained_on={
            model: _pretrained_on(study, pretrained[start])
            for model in study.models
            if (start := study.starts_from(model)) is not None
        },
        split=study.split,
        finetuning=study.finetuning.recipe,
        own_finetuning={model: study.finetuning.of(model) for model in study.finetuning.models},
        probes={model: tuning for model in study.models if isinstance(tuning := study.tuning(model), ProbeRecipe)},
        evaluation=study.evaluation,
        distances=distance.distances() if distance else None,
        comparisons=study.comparisons,
        pretraining_costs={
            model: _pretraining_cost(workspace, model, pretrained[model]) for model in study.trained_here
        },
        recorded=(f"{dates[0]:%Y-%m}", f"{dates[-1]:%Y-%m}") if len(dates) else None,
    )


def _pretrained_on(study: Study, made: PretrainedModel) -> dict[str, dict[str, int]] | None:
    """ECGs and patients that a network was pretrained on, by the title of their site; None if they are not known."""
    seen = training_counts(made.folder)[NETWORK]
    return None if seen is None else {study.sites[site].title: counts for site, counts in seen.items()}
