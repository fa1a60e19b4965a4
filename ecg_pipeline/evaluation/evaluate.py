"""One model on the test patients of one site: predictions, and what they amount to."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ecg import Progress, silent
from ecg_pipeline.evaluation.bootstrap import intervals
from ecg_pipeline.evaluation.metrics import brier, trapezoid_auprc
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.files import read_json, write_json, write_parquet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.family import load_classifier
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.finetune import score

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one model at one site. Files: `predictions.parquet`, `metrics.json`."""

    folder: Path

    def predictions(self) -> pl.DataFrame:
        """Columns record, patient, label (0 or 1), score (probability of 1)."""
        return pl.read_parquet(self.folder / "predictions.parquet")

    def metrics(self) -> dict[str, Any]:
        """Counts, and AUROC and average precision with their intervals; null with a reason where there is none."""
        return read_json(self.folder / "metrics.json")


def evaluate(
    checkpoint: Checkpoint,
    images: ImageShards,
    examples: pl.DataFrame,
    recipe: EvaluationRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = silent,
) -> Evaluation:
    """Score `examples` (columns record, site, patient, label) and write predictions and metrics to `out`."""
    table = examples.select("record", "site", "patient", "label")
    site = str(table["site"].first())
    scored = score(load_classifier(checkpoint).to(device), Batches({"sheets": {site: images}}, table), device)
    progress(len(scored), len(table))
    predictions = scored.select("record", "patient", "label", pl.col("score").cast(pl.Float64)).sort("record")
    write_parquet(out / "predictions.parquet", predictions)
    write_json(out / "metrics.json", {**summarise(predictions, recipe), "model": _provenance(checkpoint)})
    return Evaluation(out)


def summarise(predictions: pl.DataFrame, recipe: EvaluationRecipe) -> dict[str, Any]:
    """Counts and metrics of predictions (columns patient, label, score). One class alone has no AUROC, and says so."""
    labels, scores = predictions["label"].to_numpy(), predictions["score"].to_numpy()
    summary: dict[str, Any] = {
        "ecgs": len(predictions),
        "patients": predictions["patient"].n_unique(),
        "positives": int(labels.sum()),
        "draws": recipe.bootstrap_draws,
    }
    if not 0 < summary["positives"] < summary["ecgs"]:
        nothing = {"auroc": None, "average_precision": None, "trapezoid_auprc": None, "brier": None}
        return summary | nothing | {"reason": "the test patients here have one label alone, or there are none"}
    discrimination, precision = intervals(
        labels, scores, predictions["patient"].to_numpy(), recipe.bootstrap_draws, recipe.seed
    )
    return summary | {
        "auroc": asdict(discrimination),
        "average_precision": asdict(precision),
        "trapezoid_auprc": trapezoid_auprc(labels, scores),
        "brier": brier(labels, scores),
    }


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a reader of the metrics must know of the model."""
    config = checkpoint.config()
    return {
        name: config[name]
        for name in ("initialisation", "chosen_epoch", "chosen_by", "train_ecgs", "train_patients", "train_positives")
    }
