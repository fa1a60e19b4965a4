"""Metrics of predictions: discrimination, calibration, decisions and subgroups, at one site or several.

A model is one network per seed. A metric is the mean over seeds; curves and counts are those of each seed, because the
mean of several networks' scores would be another, better model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import EvaluationMetrics
from ecg_pipeline.evaluation.subgroups import subgroups
from ecg_pipeline.metrics.bootstrap import Interval, intervals
from ecg_pipeline.metrics.calibration import calibration_curve, recalibrate
from ecg_pipeline.metrics.counts import patient_level, sort_scores
from ecg_pipeline.metrics.decision import confusion, decision_curve, operating_points
from ecg_pipeline.metrics.table import METRICS, WITH_INTERVAL, ScoreMetric

ECG_COLUMNS = ("ecg_id", "site", "patient", "label")
"""Columns that identify an ECG, and its label."""

ATTRIBUTES = ("age_years", "sex", "device")
"""Columns of the patient and the device."""

ONE_LABEL = "the test patients here have one label alone, or there are none"

Thresholds = Mapping[int, Mapping[str, float]]
"""By seed: the threshold of each operating point."""

CALIBRATION_SCHEMA = {
    "seed": pl.Int64,
    "score": pl.Float64,
    "observed": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "ecgs": pl.Int64,
    "positives": pl.Int64,
}
DECISION_SCHEMA = {
    "seed": pl.Int64,
    "threshold": pl.Float64,
    "model": pl.Float64,
    "treat_all": pl.Float64,
    "treat_none": pl.Float64,
}
OPERATING_SCHEMA = {
    "seed": pl.Int64,
    "point": pl.String,
    "threshold": pl.Float64,
    "true_positives": pl.Int64,
    "false_positives": pl.Int64,
    "true_negatives": pl.Int64,
    "false_negatives": pl.Int64,
    "sensitivity": pl.Float64,
    "specificity": pl.Float64,
    "ppv": pl.Float64,
    "npv": pl.Float64,
}


def compute_metrics(
    predictions: pl.DataFrame, thresholds: Thresholds, recipe: EvaluationRecipe, *, reason: str | None = None
) -> EvaluationMetrics:
    """Compute all metrics. predictions: columns `ECG_COLUMNS`, `ATTRIBUTES`, seed and score, one row per ECG and seed.

    Curves are empty if all ECGs have the same label. reason: why there are no scores, so that only counts are made.
    """
    ecgs, scores = by_ecg(predictions)
    described = predictions.select("ecg_id", "site", *ATTRIBUTES).unique("ecg_id")
    labels, seeds = ecgs["label"].to_numpy(), seeds_of(predictions)
    by_seed = list(zip(seeds, scores, strict=True)) if not reason and 0 < labels.sum() < len(labels) else []
    points = [
        {"seed": seed, "point": point} | asdict(confusion(labels, row, threshold))
        for seed, row in by_seed
        for point, threshold in thresholds.get(seed, {}).items()
    ]
    return EvaluationMetrics(
        summarise(predictions, recipe, reason=reason),
        _stacked({seed: calibration_curve(labels, row) for seed, row in by_seed}, CALIBRATION_SCHEMA),
        _stacked({seed: decision_curve(labels, row) for seed, row in by_seed}, DECISION_SCHEMA),
        pl.DataFrame(points, schema=OPERATING_SCHEMA),
        subgroups(ecgs, None if reason else scores, described, draws=recipe.bootstrap_draws, seed=recipe.seed),
    )


def by_ecg(predictions: pl.DataFrame) -> tuple[pl.DataFrame, NDArray[np.float64]]:
    """Predictions as one row per ECG, with columns as in `ECG_COLUMNS`, and the scores (S, N) of each seed."""
    wide = predictions.pivot(on="seed", index=ECG_COLUMNS, values="score")
    return wide.select(ECG_COLUMNS), wide.drop(ECG_COLUMNS).to_numpy().T


def summarise(predictions: pl.DataFrame, recipe: EvaluationRecipe, *, reason: str | None = None) -> dict[str, Any]:
    """Counts and `METRICS` of predictions, by ECG and, under `patient_level`, by patient.

    A metric with an interval is the mean over seeds with the interval of this mean, beside the value of each seed
    and their standard deviation (null for one seed). `calibration`: by seed, slope, intercept and in_the_large, or the
    reason why there is none. If all ECGs have the same label, or there are no scores for the given `reason`, there are
    no metrics. Missing metrics are null, and `reason` says why.
    """
    ecgs, scores = by_ecg(predictions)
    labels, patients, seeds = ecgs["label"].to_numpy(), ecgs["patient"].to_numpy(), seeds_of(predictions)
    summary: dict[str, Any] = {
        "ecgs": len(ecgs),
        "patients": ecgs["patient"].n_unique(),
        "positives": int(labels.sum()),
        "draws": recipe.bootstrap_draws,
        **{metric.name: None for metric in METRICS},
    }
    if reason or not 0 < summary["positives"] < summary["ecgs"]:
        return summary | {"patient_level": None, "calibration": {}, "reason": reason or ONE_LABEL}
    values = {metric.name: metric.value(labels, scores) for metric in METRICS if not metric.interval}
    return (
        summary
        | or_reason(lambda: with_intervals(labels, scores, patients, seeds=seeds, recipe=recipe))
        | values
        | {"patient_level": or_reason(lambda: _by_patient(labels, scores, patients, seeds=seeds, recipe=recipe))}
        | {
            "calibration": {
                str(seed): or_reason(lambda row=row: asdict(recalibrate(labels, row)))
                for seed, row in zip(seeds, scores, strict=True)
            }
        }
    )


def validation_thresholds(validation: Mapping[int, pl.DataFrame]) -> tuple[dict[int, dict[str, float]], str | None]:
    """Operating points by seed from validation predictions (columns label, score), and the reason if there are none."""
    found = {
        seed: or_reason(lambda rows=rows: operating_points(rows["label"].to_numpy(), rows["score"].to_numpy()))
        for seed, rows in validation.items()
    }
    if failed := [value["reason"] for value in found.values() if "reason" in value]:
        return {}, f"no operating point on the validation patients: {failed[0]}"
    return found, None


def or_reason(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of `make`, or under `reason` the message of the ValueError that it raises."""
    try:
        return make()
    except ValueError as error:
        return {"reason": str(error)}


def with_intervals(
    labels: NDArray, scores: NDArray, patients: NDArray, *, seeds: Sequence[int], recipe: EvaluationRecipe
) -> dict[str, Any]:
    """The metrics that have an interval, each with the value of every seed; scores (S, N). They need the order of
    scores alone, which may be on any scale. Labels that are all 0 or all 1 are a ValueError."""
    found = intervals(labels, scores, patients, draws=recipe.bootstrap_draws, seed=recipe.seed)
    counts = {seed: one.counts() for seed, one in zip(seeds, sort_scores(labels, scores), strict=True)}
    return {
        metric.name: _over_seeds(found[metric.name], {seed: metric.compute(one) for seed, one in counts.items()})
        for metric in WITH_INTERVAL
    }


def _by_patient(
    labels: NDArray, scores: NDArray, patients: NDArray, *, seeds: list[int], recipe: EvaluationRecipe
) -> dict[str, Any]:
    """Metrics that count each patient once, by the mean of the patient's scores."""
    ill, means, people = patient_level(labels, scores, patients)
    counts = {"patients": len(people), "positives": int(ill.sum())}
    of_scores = {metric.name: metric.value(ill, means) for metric in METRICS if isinstance(metric, ScoreMetric)}
    return counts | with_intervals(ill, means, people, seeds=seeds, recipe=recipe) | of_scores


def _over_seeds(mean: Interval, by_seed: dict[int, float]) -> dict[str, Any]:
    spread = float(np.std(list(by_seed.values()), ddof=1)) if len(by_seed) > 1 else None
    return {**asdict(mean), "sd": spread, "by_seed": {str(seed): value for seed, value in by_seed.items()}}


def seeds_of(predictions: pl.DataFrame) -> list[int]:
    """The seeds of predictions, in their order."""
    return predictions["seed"].unique(maintain_order=True).to_list()


def _stacked(curves: Mapping[int, pl.DataFrame], schema: Mapping[str, Any]) -> pl.DataFrame:
    empty = pl.DataFrame(schema=schema)
    named = [curve.with_columns(seed=pl.lit(seed, pl.Int64)) for seed, curve in curves.items()]
    return pl.concat([empty, *(curve.select(pl.col(n).cast(t) for n, t in schema.items()) for curve in named)])
