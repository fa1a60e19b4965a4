"""What a task is: which ECGs it takes, and the rule that labels them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import polars as pl

from ecg_pipeline.ecg import RecipeError

MOST_DAYS = 36_525
"""A hundred years."""


@dataclass(frozen=True)
class MeasurementRule:
    """Positive where a measurement is at most a value; of several, the one nearest to the ECG in time counts.

    An ECG with none within `window_days` before or after has no label. (Paper: LVEF of 40 % or less, from echo reports;
    the window is ours, the paper gives none.)
    """

    kind: Literal["measurement"] = "measurement"
    code: str = "lvef_percent"
    at_most: float = 40.0
    window_days: int = 90

    def __post_init__(self) -> None:
        _check_code(self.code)
        if not 0 <= self.window_days <= MOST_DAYS:
            raise RecipeError(f"a window has 0 to {MOST_DAYS:,} days, not {self.window_days}", "window_days")


@dataclass(frozen=True)
class DiagnosisRule:
    """Positive where the patient's latest word on a diagnosis is that it was made (value 1), negative where it was
    excluded (value 0); a patient of whom nothing is said has no label."""

    kind: Literal["diagnosis"] = "diagnosis"
    code: str = "I42.1"

    def __post_init__(self) -> None:
        _check_code(self.code)


@dataclass(frozen=True)
class StatementRule:
    """Positive where the ECG itself carries one of the statements, negative where it carries others only.

    An ECG without any statement has no label, nor has one with a statement of `exclude`. A likelihood of 0 means
    "unknown" in PTB-XL and counts as given; any other must reach `minimum_likelihood`.
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
            raise RecipeError(f"{', '.join(both)} cannot both be positive and leave an ECG out", "exclude", "positive")
        most = 1 if self.system == "snomed" else 100
        if not 0 <= self.minimum_likelihood <= most:
            raise RecipeError(
                f"likelihoods of {self.system} lie between 0 and {most}: {self.minimum_likelihood:g} is no least one",
                "minimum_likelihood",
            )


@dataclass(frozen=True)
class TaskRecipe:
    """A task: the sites that train and test it, the hospitals that only validate it, and how ECGs get their label.

    fractions: of the training patients; none means those of the study.
    """

    title: str
    sites: tuple[str, ...]
    rule: MeasurementRule | DiagnosisRule | StatementRule
    external: tuple[str, ...] = ()
    fractions: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.sites:
            raise RecipeError("a task has at least one site that trains", "sites")
        if both := [site for site in self.sites if site in self.external]:
            raise RecipeError(f"{', '.join(both)} cannot be both inside and external", "external", "sites")
        for key in ("sites", "external"):
            if len(set(getattr(self, key))) < len(getattr(self, key)):
                raise RecipeError("a site is named twice", key)
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            raise RecipeError("fractions lie above 0 and are at most 1", "fractions")


def _check_code(code: str) -> None:
    if not code:
        raise RecipeError("a code is not empty", "code")


def label(
    records: pl.DataFrame, labels: pl.DataFrame, rule: MeasurementRule | DiagnosisRule | StatementRule
) -> pl.DataFrame:
    """The records that the rule labels, with the column `label` (0 or 1); the others are left out."""
    match rule:
        case MeasurementRule():
            return _by_measurement(records, labels, rule)
        case DiagnosisRule():
            return _by_diagnosis(records, labels, rule)
        case StatementRule():
            return _by_statement(records, labels, rule)


def _by_measurement(records: pl.DataFrame, labels: pl.DataFrame, rule: MeasurementRule) -> pl.DataFrame:
    measured = labels.filter((pl.col("system") == "measurement") & (pl.col("code") == rule.code))
    nearest = (
        records.select("record", "patient", "acquired_at")
        .join(measured.select("patient", "observed_at", "value"), on="patient")
        .with_columns(away=(pl.col("acquired_at") - pl.col("observed_at")).abs())
        .filter(pl.col("away") <= timedelta(days=rule.window_days))
        .sort("away", "observed_at", "value")
        .unique("record", keep="first")
        .select("record", label=(pl.col("value") <= rule.at_most).cast(pl.Int8))
    )
    return records.join(nearest, on="record", maintain_order="left")


def _by_diagnosis(records: pl.DataFrame, labels: pl.DataFrame, rule: DiagnosisRule) -> pl.DataFrame:
    latest = (
        labels.filter((pl.col("system") == "diagnosis") & (pl.col("code") == rule.code))
        .sort("observed_at", "value")
        .unique("patient", keep="last")
        .select("patient", label=(pl.col("value") > 0).cast(pl.Int8))
    )
    return records.join(latest, on="patient", maintain_order="left")


def _by_statement(records: pl.DataFrame, labels: pl.DataFrame, rule: StatementRule) -> pl.DataFrame:
    likely = (pl.col("value") == 0) | (pl.col("value") >= rule.minimum_likelihood)
    stated = (
        labels.filter((pl.col("system") == rule.system) & pl.col("record").is_not_null())
        .group_by("record")
        .agg(
            label=(pl.col("code").is_in(list(rule.positive)) & likely).any().cast(pl.Int8),
            excluded=pl.col("code").is_in(list(rule.exclude)).any(),
        )
        .filter(~pl.col("excluded"))
    )
    return records.join(stated.drop("excluded"), on="record", maintain_order="left")
