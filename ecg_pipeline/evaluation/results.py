"""The files of an evaluation: predictions of one model at one site, and their metrics."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.storage.files import read_json

TABLES = ("calibration", "decision", "operating_points", "subgroups")


@dataclass(frozen=True)
class EvaluationMetrics:
    """Metrics, curves and tables of predictions. metrics: as in `summary.summarise`.

    calibration: `calibration_curve` of each seed. decision: `decision_curve` of each seed. operating_points: counts and
    rates of each seed at its thresholds. subgroups: as in `subgroups.subgroups`.
    """

    metrics: dict[str, Any]
    calibration: pl.DataFrame
    decision: pl.DataFrame
    operating_points: pl.DataFrame
    subgroups: pl.DataFrame


@dataclass(frozen=True)
class Evaluation:
    """Predictions of one model at one site. Files: `predictions.parquet`, `metrics.json`, and one table for each of
    `calibration`, `decision`, `operating_points` and `subgroups`."""

    folder: Path

    def predictions(self) -> pl.DataFrame:
        """One row per ECG and seed: ecg_id, site, patient, label (0 or 1), age_years, sex, device, seed, score
        (probability of 1; null of a model that was not trained)."""
        return pl.read_parquet(self.folder / "predictions.parquet")

    def metrics(self) -> dict[str, Any]:
        """Counts and metrics as in `summary.summarise`; under `model` how the model was trained; under
        `operating_points` its thresholds by seed, or the reason why there are none."""
        return read_json(self.folder / "metrics.json")

    @property
    def not_trained(self) -> str | None:
        """Why the model was not trained, so that there are no scores; None if it was."""
        return self.metrics()["model"].get("not_trained")

    def thresholds(self) -> dict[int, dict[str, float]]:
        """By seed: the threshold of each operating point, fixed on validation patients."""
        return {int(seed): points for seed, points in self.metrics()["operating_points"]["by_seed"].items()}

    def evaluation_metrics(self) -> EvaluationMetrics:
        """The stored metrics with their curves and tables."""
        return EvaluationMetrics(self.metrics(), *(pl.read_parquet(self.folder / f"{name}.parquet") for name in TABLES))
