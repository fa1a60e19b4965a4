"""What a report is made of, and what it is on disk: plain values, from whatever ran the study."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.models.recipes import ModelRecipe
from ecg_pipeline.tokens.recipes import ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe

Place = tuple[str, float, str]
"""Model, fraction and site of an evaluation."""


@dataclass(frozen=True)
class TaskResults:
    """Everything that a task's report is made of.

    outcome: the rule of the label, in words. evaluation_counts: how often each evaluation was materialised. flow:
    `Cohort.flow`. rejects: number of files by site and reason. roles: `internal`, `external` or `transfer` by site.
    titles: of sites. saliency: what the models of the largest fraction look at, where that was asked.
    """

    name: str
    title: str
    outcome: str
    evaluations: Mapping[Place, Evaluation]
    evaluation_counts: Mapping[Place, int]
    flow: Mapping[str, Mapping[str, int]]
    rejects: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, str]
    titles: Mapping[str, str]
    saliency: Saliency | None = None


@dataclass(frozen=True)
class Background:
    """What all tasks of a study have in common.

    synthetic: whether any patient is invented. pretrained: name of the model that is compared with each other one.
    pretraining: None where a published checkpoint was taken over. pretraining_trace: one row an epoch, or None.
    recorded: first and last date of an ECG, or None. distances: as `ImageDistance.distances`, or None.
    """

    synthetic: bool
    pretrained: str
    models: Mapping[str, ModelRecipe]
    tokenizer: TokenizerRecipe | ImportedTokenizer
    pretraining: PretrainRecipe | None
    pretraining_trace: pl.DataFrame | None
    split: SplitRecipe
    finetuning: FinetuneRecipe
    evaluation: EvaluationRecipe
    distances: Mapping[str, Any] | None
    recorded: tuple[str, str] | None


@dataclass(frozen=True)
class Report:
    """A page and its numbers. Files: `report.html`, `results.parquet`, `differences.parquet`."""

    folder: Path

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def results(self) -> pl.DataFrame:
        """One row a task, model, fraction and site, columns as in `tables.RESULT_SCHEMA`."""
        return pl.read_parquet(self.folder / "results.parquet")

    def differences(self) -> pl.DataFrame:
        """One row a task, site, fraction and other model, columns as in `tables.DIFFERENCE_SCHEMA`."""
        return pl.read_parquet(self.folder / "differences.parquet")
