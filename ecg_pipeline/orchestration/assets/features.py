"""Features of the views by frozen encoders, for the models that have a frozen arm."""

import dagster as dg

from ecg_pipeline.models.encoders import encoder_of
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.views import view_key
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import TRAINING
from ecg_pipeline.orchestration.partitions import own_site
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.study import Study
from ecg_pipeline.training import features as extracting
from ecg_pipeline.training.checkpoints import PretrainedModel
from ecg_pipeline.training.features import Features, extract_features


def features_key(model: str) -> dg.AssetKey:
    """Asset key of the features by a model's encoders."""
    return dg.AssetKey([model, "features"])


def features_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `{model}/features` of the models with a frozen arm."""
    return [_features(study, model) for model in study.probes]


def _features(study: Study, model: str) -> dg.AssetsDefinition:
    """By site at which a frozen arm of the model is fitted: what is only tested on is read from the view."""
    recipe, seeds = study.recipes[model], study.finetuning.recipe.seeds
    starts = {study.starts_from(arm) for arm in study.probes[model]}
    sites = study.probe_sites(model)
    ins = {"view": dg.AssetIn(key=view_key(recipe.view), partition_mapping=own_site(sites), dagster_type=ArrayShards)}
    if model in starts:
        ins["pretrained"] = dg.AssetIn(key=[model, "pretrained_checkpoint"], dagster_type=PretrainedModel)

    @dg.asset(
        key=features_key(model),
        partitions_def=dg.StaticPartitionsDefinition(sites),
        group_name="features",
        ins=ins,
        kinds={"torch", "zarr"},
        pool=TRAINING,
        **identified(
            extracting.REVISION + study.family(model).revision,
            model=recipe,
            encoders={"pretrained": model in starts, "random": None in starts, "seeds": seeds},
        ),
    )
    def features(
        context: dg.AssetExecutionContext,
        workspace: dg.ResourceParam[Workspace],
        view: ArrayShards,
        **start: PretrainedModel,
    ) -> Events:
        """What frozen encoders give for each example: each pretrained network, and a random one a seed."""
        sources = [*start.values(), *([None] if None in starts else [])]
        encoders = {one.name: one for one in (encoder_of(source, seed) for source in sources for seed in seeds)}
        yield from workspace.materialise(
            context,
            Features,
            make=lambda build: extract_features(
                view,
                {name: lambda one=one: one.classifier(recipe) for name, one in encoders.items()},
                build.folder,
                device=workspace.device,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=metadata.features,
        )

    return features
