"""One model, once a seed, on the test patients of one site: predictions, and what they amount to."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, silent
from ecg_pipeline.evaluation.bootstrap import Interval, intervals
from ecg_pipeline.evaluation.metrics import auroc, average_precision, brier, trapezoid_auprc
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.files import read_json, write_json, write_parquet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import FinetunedModel
from ecg_pipeline.models.family import load_classifier
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.finetune import score

REVISION = 2
"""Bumped by hand when this module's results change."""

ECG = ("record", "site", "patient", "label")
"""Columns that say which ECG was scored, and what is true of it."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one model at one site. Files: `predictions.parquet`, `metrics.json`."""

    folder: Path

    def predictions(self) -> pl.DataFrame:
        """One row an ECG and seed: record, site, patient, label (0 or 1), seed, score (probability of 1)."""
        return pl.read_parquet(self.folder / "predictions.parquet")

    def metrics(self) -> dict[str, Any]:
        """Counts, what a reader must know of the model, and the metrics as in `summarise`."""
        return read_json(self.folder / "metrics.json")


def evaluate(
    model: FinetunedModel,
    images: ImageShards,
    examples: pl.DataFrame,
    recipe: EvaluationRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = silent,
) -> Evaluation:
    """Score `examples` (columns `ECG`, of one site) with each seed's network; predictions and metrics to `out`."""
    table, checkpoints = examples.select(ECG), model.checkpoints()
    batches = Batches({"sheets": {str(table["site"].first()): images}}, table)
    scored = []
    for done, (seed, checkpoint) in enumerate(checkpoints.items(), start=1):
        scores = score(load_classifier(checkpoint).to(device), batches, device)
        scored.append(scores.select(*ECG, pl.lit(seed, pl.Int64).alias("seed"), pl.col("score").cast(pl.Float64)))
        progress(done * len(table), len(checkpoints) * len(table))
    predictions = pl.concat(scored).sort("seed", "record")
    write_parquet(out / "predictions.parquet", predictions)
    write_json(out / "metrics.json", {**summarise(predictions, recipe), "model": _provenance(model)})
    return Evaluation(out)


def by_ecg(predictions: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Predictions as one row an ECG, with columns as in `ECG`, and the scores (S, N) of each seed for these rows."""
    wide = predictions.pivot(on="seed", index=ECG, values="score")
    return wide.select(ECG), wide.drop(ECG).to_numpy().T


def summarise(predictions: pl.DataFrame, recipe: EvaluationRecipe) -> dict[str, Any]:
    """Counts and metrics of predictions. AUROC and average precision are the mean over seeds with the interval of this
    mean, beside the value of each seed and their standard deviation (null for one seed). One class alone has no
    metrics, and says so.
    """
    ecgs, scores = by_ecg(predictions)
    labels = ecgs["label"].to_numpy()
    summary: dict[str, Any] = {
        "ecgs": len(ecgs),
        "patients": ecgs["patient"].n_unique(),
        "positives": int(labels.sum()),
        "draws": recipe.bootstrap_draws,
    }
    if not 0 < summary["positives"] < summary["ecgs"]:
        nothing = {"auroc": None, "average_precision": None, "trapezoid_auprc": None, "brier": None}
        return summary | nothing | {"reason": "the test patients here have one label alone, or there are none"}
    drawn = intervals(labels, scores, ecgs["patient"].to_numpy(), recipe.bootstrap_draws, recipe.seed)
    seeds = predictions["seed"].unique(maintain_order=True).to_list()
    return summary | {
        "auroc": _over_seeds(drawn[0], {seed: auroc(labels, row) for seed, row in zip(seeds, scores, strict=True)}),
        "average_precision": _over_seeds(
            drawn[1], {seed: average_precision(labels, row) for seed, row in zip(seeds, scores, strict=True)}
        ),
        "trapezoid_auprc": trapezoid_auprc(labels, scores),
        "brier": brier(labels, scores),
    }


def _over_seeds(mean: Interval, by_seed: dict[int, float]) -> dict[str, Any]:
    spread = float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else None
    return {**asdict(mean), "sd": spread, "by_seed": {str(seed): value for seed, value in by_seed.items()}}


def _provenance(model: FinetunedModel) -> dict[str, Any]:
    """What a reader of the metrics must know of the model."""
    names = ("initialisation", "chosen_by", "optimistic", "chosen_epochs")
    config = model.config()
    counts = ("train_ecgs", "train_patients", "train_positives")
    return {"seeds": config["finetuning"]["seeds"], **{name: config[name] for name in (*names, *counts)}}
