"""One model, once a seed, on the test patients of one site: predictions and their metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.files import read_json, write_json, write_parquet
from ecg_pipeline.models.checkpoints import FinetunedModel
from ecg_pipeline.parts import ArrayParts

REVISION = 3
"""Bumped by hand when this module's results, or those of `summary`, change."""

NO_VALIDATION = "there are no operating points: no validation patients were kept out of training to fix them on"

TABLES = ("calibration", "decision", "operating_points", "subgroups")


@dataclass(frozen=True)
class EvaluationMetrics:
    """Metrics, curves and tables of predictions. metrics: as `summary.summarise` gives them.

    calibration: `calibration_curve` of each seed. decision: `decision_curve` of each seed. operating_points: counts and
    rates of each seed at its thresholds. subgroups: as `subgroups.subgroups` gives them.
    """

    metrics: dict[str, Any]
    calibration: pl.DataFrame
    decision: pl.DataFrame
    operating_points: pl.DataFrame
    subgroups: pl.DataFrame


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one model at one site. Files: `predictions.parquet`, `metrics.json`, and a table each for
    `calibration`, `decision`, `operating_points` and `subgroups`."""

    folder: Path

    def predictions(self) -> pl.DataFrame:
        """One row an ECG and seed: record, site, patient, label (0 or 1), age_years, sex, device, seed, score
        (probability of 1)."""
        return pl.read_parquet(self.folder / "predictions.parquet")

    def metrics(self) -> dict[str, Any]:
        """Counts and metrics as in `summary.summarise`; under `model` what a reader must know of the model; under
        `operating_points` its thresholds by seed, and the reason where there are none."""
        return read_json(self.folder / "metrics.json")

    def thresholds(self) -> dict[int, dict[str, float]]:
        """By seed: the threshold of each operating point, fixed on validation patients."""
        return {int(seed): points for seed, points in self.metrics()["operating_points"]["by_seed"].items()}

    def evaluation_metrics(self) -> EvaluationMetrics:
        """The stored metrics with their curves and tables."""
        return EvaluationMetrics(self.metrics(), *(pl.read_parquet(self.folder / f"{name}.parquet") for name in TABLES))


def evaluate(
    model: FinetunedModel,
    images: ArrayParts,
    examples: pl.DataFrame,
    recipe: EvaluationRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score `examples` with each seed's network, and write predictions and metrics to `out`.

    examples: columns record, site (one), patient, label, age_years, sex, device.
    """
    from ecg_pipeline.evaluation.summary import DESCRIBED, ECG, compute_metrics, validation_thresholds
    from ecg_pipeline.models.family import load_classifier
    from ecg_pipeline.training.batches import Batches
    from ecg_pipeline.training.finetune import score

    table, checkpoints = examples.select(*ECG, *DESCRIBED), model.checkpoints()
    batches = Batches({"sheets": {str(table["site"].first()): images}}, table)
    scored = []
    for done, (seed, checkpoint) in enumerate(checkpoints.items(), start=1):
        scores = score(load_classifier(checkpoint).to(device), batches, device)
        scored.append(scores.select(*table.columns, pl.lit(seed, pl.Int64).alias("seed"), pl.col("score").cast(float)))
        progress(done * len(table), len(checkpoints) * len(table))
    predictions = pl.concat(scored).sort("seed", "record")
    kept = {seed: path for seed, one in checkpoints.items() if (path := one.folder / "validation.parquet").exists()}
    thresholds, reason = (
        validation_thresholds({seed: pl.read_parquet(path) for seed, path in kept.items()})
        if kept
        else ({}, NO_VALIDATION)
    )
    points = {"by_seed": {str(seed): values for seed, values in thresholds.items()}, "reason": reason}
    about = {"operating_points": points, "model": _provenance(model)}
    return write_evaluation(predictions, compute_metrics(predictions, thresholds, recipe), about, out)


def write_evaluation(
    predictions: pl.DataFrame, computed: EvaluationMetrics, about: Mapping[str, Any], out: Path
) -> Evaluation:
    """Write the files of an evaluation. about: `operating_points` and `model` of `Evaluation.metrics`."""
    write_parquet(out / "predictions.parquet", predictions)
    for name in TABLES:
        write_parquet(out / f"{name}.parquet", getattr(computed, name))
    write_json(out / "metrics.json", {**computed.metrics, **about})
    return Evaluation(out)


def _provenance(model: FinetunedModel) -> dict[str, Any]:
    """How the model was trained, for a reader of its metrics."""
    names = ("initialisation", "chosen_by", "optimistic", "chosen_epochs")
    config = model.config()
    counts = ("train_ecgs", "train_patients", "train_positives")
    return {"seeds": config["finetuning"]["seeds"], **{name: config[name] for name in (*names, *counts)}}
