"""Fits a model to a task: the fine-tuning of a network on a view, or a linear probe on features."""

from typing import Any

import polars as pl

from ecg_pipeline.models.encoders import encoder_of
from ecg_pipeline.models.family import ModelRecipe
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.checkpoints import FinetunedModel, PretrainedModel
from ecg_pipeline.training.features import Features
from ecg_pipeline.training.recipes import FinetuneRecipe, ProbeRecipe


def finetune(
    recipe: ModelRecipe,
    tuning: FinetuneRecipe,
    *,
    read: dict[str, ArrayShards],
    start: PretrainedModel | None,
    train: pl.DataFrame,
    selection: pl.DataFrame,
    **options: Any,
) -> FinetunedModel:
    """Fine-tune a model on the examples of a view, by site."""
    from ecg_pipeline.models.load import build_classifier
    from ecg_pipeline.training import finetune as finetuning
    from ecg_pipeline.training.batches import in_view

    return finetuning.finetune(
        lambda seed: build_classifier(recipe, start.start(seed) if start else None, seed=seed),
        tuning,
        view=read,
        train=in_view(train, read),
        selection=in_view(selection, read),
        **options,
    )


def probe(
    recipe: ModelRecipe,
    tuning: ProbeRecipe,
    *,
    read: dict[str, Features],
    start: PretrainedModel | None,
    train: pl.DataFrame,
    selection: pl.DataFrame,
    **options: Any,
) -> FinetunedModel:
    """Fit a linear probe to features, by site."""
    from ecg_pipeline.training.batches import in_view
    from ecg_pipeline.training.probe import fit_probe

    encoders = {seed: encoder_of(start, seed) for seed in tuning.seeds}
    by_seed = {seed: {site: made.of(one.name) for site, made in read.items()} for seed, one in encoders.items()}
    first = by_seed[tuning.seeds[0]]
    return fit_probe(
        lambda seed: encoders[seed].classifier(recipe),
        tuning,
        features=by_seed.__getitem__,
        train=in_view(train, first),
        selection=in_view(selection, first),
        **options,
    )
