"""Evaluation of one model on the test patients of one site: predictions of each seed, and their metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import TABLES, Evaluation, EvaluationMetrics
from ecg_pipeline.models.start import start_words
from ecg_pipeline.storage.files import write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.checkpoints import COST, FinetunedModel

REVISION = 6
"""Bumped by hand when this module's results, or those of `summary`, change."""

NO_VALIDATION = "there are no operating points: no validation patients were kept out of training to fix them on"


def evaluate(
    model: FinetunedModel,
    view: ArrayShards,
    tested: pl.DataFrame,
    *,
    recipe: EvaluationRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score `tested` with each seed's network, and write predictions and metrics to `out`.

    view: what the model reads. tested: columns ecg_id, site (one), patient, label, age_years, sex, device. A model that
    was not trained has no scores and no metrics, and the reason in their place.
    """
    from ecg_pipeline.evaluation.summary import ATTRIBUTES, ECG_COLUMNS, compute_metrics, validation_thresholds
    from ecg_pipeline.models.load import load_classifier
    from ecg_pipeline.training.batches import Batches
    from ecg_pipeline.training.score import score

    table, checkpoints = tested.select(*ECG_COLUMNS, *ATTRIBUTES), model.checkpoints()
    batches = Batches(arrays={"view": {str(table["site"].first()): view}}, table=table)
    scored = []
    for done, (seed, checkpoint) in enumerate(checkpoints.items(), start=1):
        scores = score(load_classifier(checkpoint).to(device), batches, device=device)
        scored.append(scores.select(*table.columns, pl.lit(seed, pl.Int64).alias("seed"), pl.col("score").cast(float)))
        progress(done * len(table), len(checkpoints) * len(table))
    if model.not_trained:
        scored = [
            table.with_columns(seed=pl.lit(seed, pl.Int64), score=pl.lit(None, pl.Float64)) for seed in model.seeds()
        ]
    predictions = pl.concat(scored).sort("seed", "ecg_id")
    kept = {seed: path for seed, one in checkpoints.items() if (path := one.folder / "validation.parquet").exists()}
    thresholds, reason = (
        validation_thresholds({seed: pl.read_parquet(path) for seed, path in kept.items()})
        if kept
        else ({}, model.not_trained or NO_VALIDATION)
    )
    points = {"by_seed": {str(seed): values for seed, values in thresholds.items()}, "reason": reason}
    about = {"operating_points": points, "model": _training_facts(model)}
    computed = compute_metrics(predictions, thresholds, recipe, reason=model.not_trained)
    return write_evaluation(predictions, computed, about=about, out=out)


def write_evaluation(
    predictions: pl.DataFrame, computed: EvaluationMetrics, *, about: Mapping[str, Any], out: Path
) -> Evaluation:
    """Write the files of an evaluation. about: `operating_points` and `model` of `Evaluation.metrics`."""
    write_parquet(out / "predictions.parquet", predictions)
    for name in TABLES:
        write_parquet(out / f"{name}.parquet", getattr(computed, name))
    write_json(out / "metrics.json", {**computed.metrics, **about})
    return Evaluation(out)


def _training_facts(model: FinetunedModel) -> dict[str, Any]:
    """How the model was trained, to store with its metrics."""
    config, how = model.config(), ("initialisation", "chosen_by", "optimistic")
    counts = ("train_ecgs", "train_patients", "train_positives")
    stated = {name: config[name] for name in how} | model.chosen() | {name: config[name] for name in counts}
    stated |= {name: config[name] for name in ("not_trained", *COST) if name in config}
    return {"seeds": model.seeds(), **stated, **start_words(config)}
