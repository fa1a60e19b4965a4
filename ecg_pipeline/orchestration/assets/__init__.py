"""The asset graph, in the order of the paper's methods section."""

from collections.abc import Callable

import dagster as dg

from ecg_pipeline.orchestration.assets.cohorts import cohort_asset, test_set_asset
from ecg_pipeline.orchestration.assets.evaluation import benchmark_asset, evaluation_asset, report_asset
from ecg_pipeline.orchestration.assets.features import features_assets
from ecg_pipeline.orchestration.assets.hospitals import hospital_assets
from ecg_pipeline.orchestration.assets.images import NATURAL, image_assets, natural_version
from ecg_pipeline.orchestration.assets.ingest import RAW, ingest_assets, raw_version
from ecg_pipeline.orchestration.assets.published import (
    published_assets,
    published_key,
    published_names,
    published_version,
)
from ecg_pipeline.orchestration.assets.saliency import saliency_asset
from ecg_pipeline.orchestration.assets.signals import signal_assets
from ecg_pipeline.orchestration.assets.statements import statement_assets
from ecg_pipeline.orchestration.assets.texts import text_assets
from ecg_pipeline.orchestration.assets.tokens import token_assets
from ecg_pipeline.orchestration.assets.training import finetuning_asset, pretraining_assets
from ecg_pipeline.orchestration.assets.zero_shot import zero_shot_asset
from ecg_pipeline.study import Study


def study_assets(study: Study) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Every asset of a study."""
    return [
        *hospital_assets(study),
        *ingest_assets(study),
        *signal_assets(study),
        *image_assets(study),
        *token_assets(study),
        *statement_assets(study),
        *text_assets(study),
        *pretraining_assets(study),
        *published_assets(study),
        *features_assets(study),
        *(asset for task in study.tasks for asset in _task_assets(study, task)),
        benchmark_asset(study),
    ]


def source_versions(study: Study) -> dict[dg.AssetKey, Callable[[str | None], str]]:
    """Functions that return the current data version of a partition of each source asset."""
    published = {
        published_key(name): lambda partition, name=name: published_version(study, name)
        for name in published_names(study)
    }
    natural = {NATURAL: lambda partition: natural_version(study)} if study.has_images else {}
    return {RAW: raw_version(study), **natural, **published}


def _task_assets(study: Study, task: str) -> list[dg.AssetsDefinition]:
    return [
        cohort_asset(study, task),
        test_set_asset(study, task),
        *(finetuning_asset(study, task, model) for model in study.models_of(task)),
        *(evaluation_asset(study, task, model) for model in study.models_of(task)),
        *(zero_shot_asset(study, task, model) for model in study.zero_shot_networks(task)),
        saliency_asset(study, task),
        report_asset(study, task),
    ]
