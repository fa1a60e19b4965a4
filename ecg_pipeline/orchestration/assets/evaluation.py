"""Evaluation at each hospital, and the reports."""

import dagster as dg

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.evaluation import evaluate as evaluating
from ecg_pipeline.evaluation import report as reporting
from ecg_pipeline.evaluation.evaluate import Evaluation, evaluate
from ecg_pipeline.evaluation.report import Report
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import Checkpoint
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
        finetuned_model: Checkpoint,
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
