"""Tasks: their sites, and the rule that labels an ECG."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

import polars as pl

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.texts.clean import LANGUAGES, normalise

MAX_DAYS = 36_525
"""A hundred years."""


@dataclass(frozen=True)
class MeasurementRule:
    """Positive if a measurement is at most `at_most`; of several, the nearest to the ECG in time is used.

    An ECG without a measurement within `window_days` before or after has no label. (Paper: LVEF of 40 % or less, from
    echo reports; the window is ours, the paper gives none.)
    """

    kind: Literal["measurement"] = "measurement"
    code: str = "lvef_percent"
    at_most: float = 40.0
    window_days: int = 90

    def __post_init__(self) -> None:
        _check_code(self.code)
        if not 0 <= self.window_days <= MAX_DAYS:
            raise RecipeError(f"a window must have 0 to {MAX_DAYS:,} days, not {self.window_days}", "window_days")


@dataclass(frozen=True)
class DiagnosisRule:
    """By the patient's latest entry of a diagnosis: positive if it was made (value 1), negative if it was excluded
    (value 0). A patient without an entry has no label."""

    kind: Literal["diagnosis"] = "diagnosis"
    code: str = "I42.1"

    def __post_init__(self) -> None:
        _check_code(self.code)


@dataclass(frozen=True)
class StatementRule:
    """Positive if the ECG has one of the statements `positive`, negative if it has only others.

    An ECG without any statement, or with one of `exclude`, has no label. In PTB-XL a likelihood of 0 means "unknown"
    and is accepted; any other must be at least `minimum_likelihood`.
    """

    kind: Literal["statement"] = "statement"
    system: str = "scp"
    positive: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    minimum_likelihood: float = 0.0

    def __post_init__(self) -> None:
        if not self.positive:
            raise RecipeError("no statement makes an ECG positive: name at least one", "positive")
        if both := [code for code in self.positive if code in self.exclude]:
            raise RecipeError(f"{', '.join(both)} cannot be in both `positive` and `exclude`", "exclude", "positive")
        most = 100 if self.system == "scp" else 1
        if not 0 <= self.minimum_likelihood <= most:
            raise RecipeError(
                f"minimum_likelihood of {self.system} must lie between 0 and {most}, not {self.minimum_likelihood:g}",
                "minimum_likelihood",
            )


@dataclass(frozen=True)
class TaskRecipe:
    """A task: its internal sites, its external hospitals, and the rule that labels ECGs.

    fractions: of the training patients; empty means those of the study. models: names of those that are trained for it;
    empty means all. prompts: by language ("en", "de", "sv"), one sentence that a physician could write on a positive
    ECG. A pretrained network that reads texts is tried without training by how well ECGs fit it (zero-shot).
    """

    title: str
    sites: tuple[str, ...]
    rule: MeasurementRule | DiagnosisRule | StatementRule
    external: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sites:
            raise RecipeError("a task needs at least one internal site to train on", "sites")
        if both := [site for site in self.sites if site in self.external]:
            raise RecipeError(f"{', '.join(both)} cannot be both internal and external", "external", "sites")
        for key in ("sites", "external"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise RecipeError("a site is listed twice", key)
        if len(set(self.models)) < len(self.models):
            raise RecipeError("a model is listed twice", "models")
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            raise RecipeError("fractions must be above 0 and at most 1", "fractions")
        for language, sentence in self.prompts.items():
            if language not in LANGUAGES:
                raise RecipeError(f"prompts are in {', '.join(LANGUAGES)}, not in `{language}`", f"prompts.{language}")
            if not normalise(sentence):
                raise RecipeError("a prompt must say something", f"prompts.{language}")


def _check_code(code: str) -> None:
    if not code:
        raise RecipeError("the code must not be empty", "code")


def label(
    ecgs: pl.DataFrame, *, labels: pl.DataFrame, rule: MeasurementRule | DiagnosisRule | StatementRule
) -> pl.DataFrame:
    """The ECGs that the rule labels, with the column `label` (0 or 1, i8). ECGs without a label are dropped."""
    match rule:
        case MeasurementRule():
            return _by_measurement(ecgs, labels, rule)
        case DiagnosisRule():
            return _by_diagnosis(ecgs, labels, rule)
        case StatementRule():
            return _by_statement(ecgs, labels, rule)


def _by_measurement(ecgs: pl.DataFrame, labels: pl.DataFrame, rule: MeasurementRule) -> pl.DataFrame:
    measured = labels.filter((pl.col("system") == "measurement") & (pl.col("code") == rule.code))
    nearest = (
        ecgs.select("ecg_id", "patient", "acquired_at")
        .join(measured.select("patient", "observed_at", "value"), on="patient")
        .with_columns(away=(pl.col("acquired_at") - pl.col("observed_at")).abs())
        .filter(pl.col("away") <= timedelta(days=rule.window_days))
        .sort("away", "observed_at", "value")
        .unique("ecg_id", keep="first")
        .select("ecg_id", label=(pl.col("value") <= rule.at_most).cast(pl.Int8))
    )
    return ecgs.join(nearest, on="ecg_id", maintain_order="left")


def _by_diagnosis(ecgs: pl.DataFrame, labels: pl.DataFrame, rule: DiagnosisRule) -> pl.DataFrame:
    latest = (
        labels.filter((pl.col("system") == "diagnosis") & (pl.col("code") == rule.code))
        .sort("observed_at", "value")
        .unique("patient", keep="last")
        .select("patient", label=(pl.col("value") > 0).cast(pl.Int8))
    )
    return ecgs.join(latest, on="patient", maintain_order="left")


def _by_statement(ecgs: pl.DataFrame, labels: pl.DataFrame, rule: StatementRule) -> pl.DataFrame:
    likely = (pl.col("value") == 0) | (pl.col("value") >= rule.minimum_likelihood)
    stated = (
        labels.filter((pl.col("system") == rule.system) & pl.col("ecg_id").is_not_null())
        .group_by("ecg_id")
        .agg(
            label=(pl.col("code").is_in(list(rule.positive)) & likely).any().cast(pl.Int8),
            excluded=pl.col("code").is_in(list(rule.exclude)).any(),
        )
        .filter(~pl.col("excluded"))
    )
    return ecgs.join(stated.drop("excluded"), on="ecg_id", maintain_order="left")
