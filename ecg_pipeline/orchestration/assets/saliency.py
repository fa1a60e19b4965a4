"""Saliency: which parts of an ECG the models of a task respond to."""

from typing import Any

import dagster as dg
import polars as pl

from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.explanation import saliency as explaining
from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.explanation.saliency import explain
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.views import input_name, view_key
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.partitions import FRACTION, SITE, fraction_key
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.study import Study
from ecg_pipeline.training.checkpoints import FinetunedModel


def saliency_asset(study: Study, task: str) -> dg.AssetsDefinition:
    """Asset `{task}/saliency`: the models of the largest fraction, on test ECGs of the task's own sites."""
    recipe, compared = study.tasks[task], study.models_of(task)
    largest = fraction_key(max(recipe.fractions or study.fractions))
    tested = [dg.MultiPartitionKey({FRACTION: largest, SITE: site}) for site in recipe.sites]
    of_task = dg.SpecificPartitionsPartitionMapping(list(recipe.sites))
    models = {
        f"{model}__model": dg.AssetIn(
            key=[task, model, "finetuned_model"],
            partition_mapping=dg.SpecificPartitionsPartitionMapping([largest]),
            dagster_type=FinetunedModel,
        )
        for model in compared
    }
    evaluations = {
        f"{model}__evaluation": dg.AssetIn(
            key=[task, model, "evaluation"],
            partition_mapping=dg.SpecificPartitionsPartitionMapping(tested),
            dagster_type=dict[str, Evaluation],
        )
        for model in compared
    }
    stores = {"waveform_store": dg.AssetIn(partition_mapping=of_task)}
    view_of = {model: study.recipes[model].view for model in compared}
    views = {
        input_name(view): dg.AssetIn(key=view_key(view), partition_mapping=of_task, dagster_type=dict[str, ArrayShards])
        for view in view_of.values()
    }

    @dg.asset(
        key=[task, "saliency"],
        group_name=task,
        ins={**models, **evaluations, **stores, **views},
        kinds={"torch", "png"},
        **identified(
            explaining.REVISION, saliency=study.saliency, sheet=study.sheet, filters=study.filters, models=compared
        ),
    )
    def saliency(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        waveform_store: dict[str, WaveformStore],
        **made: Any,
    ) -> Events:
        """FullGrad and attention on the best-scored positives (paper: Figure 5) and on errors, and shares by wave."""
        yield from workspace.materialise(
            context,
            Saliency,
            make=lambda build: explain(
                {model: made[f"{model}__model"] for model in compared},
                study.saliency,
                predictions={model: _predictions(made[f"{model}__evaluation"]) for model in compared},
                thresholds={model: _thresholds(made[f"{model}__evaluation"]) for model in compared},
                views={model: made[input_name(view)] for model, view in view_of.items()},
                stores=waveform_store,
                sheet=study.sheet,
                filters=study.filters,
                out=build.folder,
                device=workspace.device,
                progress=build.progress,
            ),
            metadata_of=lambda made: metadata.saliency(made, workspace.home),
        )

    return saliency


def _predictions(evaluations: dict[str, Evaluation]) -> pl.DataFrame:
    return pl.concat([evaluation.predictions() for evaluation in evaluations.values()])


def _thresholds(evaluations: dict[str, Evaluation]) -> dict[int, dict[str, float]]:
    """Those of a model are the same at every site."""
    return next(iter(evaluations.values())).thresholds()
