"""Evaluation at each hospital, and the reports."""

from typing import Any

import dagster as dg

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.evaluation import evaluate as evaluating
from ecg_pipeline.evaluation import report as reporting
from ecg_pipeline.evaluation.evaluate import Evaluation, evaluate
from ecg_pipeline.evaluation.report import Report, TaskResults, write_report
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import FinetunedModel
from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.partitions import FRACTION, SITE, dimensions, evaluation_partitions
from ecg_pipeline.orchestration.resources import House, identified
from ecg_pipeline.records.store import WaveformStore
from ecg_pipeline.study import Study


def evaluation_asset(study: Study, task: str, model: str) -> dg.AssetsDefinition:
    """Asset `{task}/{model}/evaluation`, by site and fraction; an external hospital is its own partition."""
    recipe, partitions = study.tasks[task], evaluation_partitions(study, task)

    @dg.asset(
        key=[task, model, "evaluation"],
        group_name=task,
        partitions_def=partitions,
        ins={
            "finetuned_model": dg.AssetIn(
                key=[task, model, "finetuned_model"],
                partition_mapping=dg.MultiToSingleDimensionPartitionMapping(FRACTION),
            ),
            "cohort": dg.AssetIn(key=[task, "cohort"]),
            "image_shards": dg.AssetIn(
                partition_mapping=dg.SpecificPartitionsPartitionMapping([*recipe.sites, *recipe.external])
            ),
        },
        kinds={"parquet"},
        **identified(evaluating.REVISION, evaluation=study.evaluation),
    )
    def evaluation(
        context: dg.AssetExecutionContext,
        house: dg.ResourceParam[House],
        finetuned_model: FinetunedModel,
        cohort: Cohort,
        image_shards: dict[str, ImageShards],
    ) -> dg.MaterializeResult[Evaluation]:
        """Predictions, metrics with intervals and curves on one hospital's test or external patients."""
        site = dimensions(partitions, context.partition_key)[SITE]
        return house.materialise(
            context,
            Evaluation,
            lambda build: evaluate(
                finetuned_model,
                image_shards[site],
                cohort.test(site),
                study.evaluation,
                build.folder,
                house.device,
                build.progress,
            ),
            show.evaluation,
        )

    return evaluation


def report_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/report`."""
    return _report_asset(study, [task], dg.AssetKey([task, "report"]), study.tasks[task].title, task)


def benchmark_asset(study: Study) -> dg.AssetsDefinition:
    """Asset `benchmark_report`: all tasks on one page."""
    return _report_asset(study, list(study.tasks), dg.AssetKey("benchmark_report"), study.title, "benchmark")


def _report_asset(study: Study, tasks: list[str], key: dg.AssetKey, title: str, group: str) -> dg.AssetsDefinition:
    """A page over some of the tasks. Its inputs are named after task and model, because there are many."""
    sites = sorted({site for task in tasks for site in (*study.tasks[task].sites, *study.tasks[task].external)})
    inputs = {
        f"{task}__{model}": dg.AssetIn(key=[task, model, "evaluation"], dagster_type=dict[str, Evaluation])
        for task in tasks
        for model in study.models
    }
    cohorts = {f"{task}__cohort": dg.AssetIn(key=[task, "cohort"], dagster_type=Cohort) for task in tasks}
    stores = {"waveform_store": dg.AssetIn(partition_mapping=dg.SpecificPartitionsPartitionMapping(sites))}

    @dg.asset(
        key=key,
        group_name=group,
        ins={**inputs, **cohorts, **stores},
        kinds={"html"},
        **identified(
            reporting.REVISION,
            title=title,
            tasks={task: study.tasks[task].title for task in tasks},
            roles=_roles(study),
        ),
    )
    def report(
        context: dg.AssetExecutionContext,
        house: dg.ResourceParam[House],
        waveform_store: dict[str, WaveformStore],
        **made: Any,
    ) -> dg.MaterializeResult[Report]:
        """Tables and figures with internal and external results side by side, as one page that opens from disk."""
        rejects = {
            site: dict(sorted(store.rejects().group_by("reason").len().iter_rows()))
            for site, store in waveform_store.items()
        }

        def results(task: str) -> TaskResults:
            partitions = evaluation_partitions(study, task)
            evaluations = {}
            for model in study.models:
                for partition, evaluation in made[f"{task}__{model}"].items():
                    place = dimensions(partitions, partition)
                    evaluations[model, float(place[FRACTION]), place[SITE]] = evaluation
            own = (*study.tasks[task].sites, *study.tasks[task].external)
            return TaskResults(
                name=task,
                title=study.tasks[task].title,
                evaluations=evaluations,
                flow=made[f"{task}__cohort"].flow(),
                rejects={site: rejects[site] for site in own},
                roles={site: study.sites[site].role for site in own},
            )

        facts = {"Study": study.name, "Study fingerprint": study.fingerprint()}
        return house.materialise(
            context,
            Report,
            lambda build: write_report(
                title, [results(task) for task in tasks], study.is_synthetic, facts, build.folder
            ),
            show.report,
        )

    return report


def _roles(study: Study) -> dict[str, str]:
    return {name: site.role for name, site in study.sites.items()}
