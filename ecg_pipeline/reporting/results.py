"""The inputs of a report, and its files: plain values, independent of what ran the study."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.evaluation.zero_shot import ZeroShot
from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.family import ModelRecipe
from ecg_pipeline.reporting.recipes import ComparisonsRecipe, Pair
from ecg_pipeline.signals.windows import WindowRecipe
from ecg_pipeline.tokens.recipes import ImportedTokenizer, TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe, ProbeRecipe

EvaluationKey = tuple[str, float, str]
"""Model, fraction and site of an evaluation."""


@dataclass(frozen=True)
class TaskResults:
    """The results of one task.

    outcome: the rule of the label, in words. evaluation_counts: how often each evaluation was materialised. flow:
    `Cohort.flow`. rejects: number of files by site and reason. roles: `internal`, `external` or `transfer` by site.
    titles: of sites. saliency: of the models of the largest fraction, or None. pairs: the planned comparisons.
    thread_seconds: by model and fraction, what the record of its training says, all seeds together. zero_shots: by
    pretrained network and site, of a task with prompts.
    """

    name: str
    title: str
    outcome: str
    evaluations: Mapping[EvaluationKey, Evaluation]
    evaluation_counts: Mapping[EvaluationKey, int]
    flow: Mapping[str, Mapping[str, int]]
    rejects: Mapping[str, Mapping[str, int]]
    roles: Mapping[str, str]
    titles: Mapping[str, str]
    saliency: Saliency | None = None
    pairs: Sequence[Pair] = ()
    thread_seconds: Mapping[tuple[str, float], float] = field(default_factory=dict)
    zero_shots: Mapping[tuple[str, str], ZeroShot] = field(default_factory=dict)


@dataclass(frozen=True)
class PretrainingCost:
    """What the pretraining of a model cost.

    parameters, flops: of one seed, as `training.cost.step_cost`; None in outputs that do not say. seeds: their number.
    thread_seconds: of all seeds together, by the record; None without one.
    """

    parameters: int | None
    flops: int | None
    seeds: int
    thread_seconds: float | None


@dataclass(frozen=True)
class Background:
    """What all tasks of a study have in common.

    paper: name of the paper that the study reproduces, or None. synthetic: whether any patient of a task is.
    reference: name of the model that is compared with every other model. sheet, tokenizer, distances: None if nothing
    uses them.
    pretraining: by model; None if a published checkpoint is used. pretraining_traces: by model trained here, one row
    per step of its first seed. pretrained_on: by model that starts from pretrained weights, ECGs and patients by title
    of their site; None if not known.
    own_finetuning: of models that are not fine-tuned as the others. probes: of frozen arms. recorded: first and last
    date of an ECG, or None. distances: as `ImageDistance.distances`. comparisons: what is planned of them.
    pretraining_costs: of models that are pretrained here.
    """

    paper: str | None
    synthetic: bool
    reference: str
    sheet: SheetRecipe | None
    windows: Mapping[str, WindowRecipe]
    models: Mapping[str, ModelRecipe]
    tokenizer: TokenizerRecipe | ImportedTokenizer | None
    pretraining: Mapping[str, PretrainRecipe | None]
    pretraining_traces: Mapping[str, pl.DataFrame]
    pretrained_on: Mapping[str, Mapping[str, Mapping[str, int]] | None]
    split: SplitRecipe
    finetuning: FinetuneRecipe
    own_finetuning: Mapping[str, FinetuneRecipe]
    probes: Mapping[str, ProbeRecipe]
    evaluation: EvaluationRecipe
    distances: Mapping[str, Any] | None
    recorded: tuple[str, str] | None
    comparisons: ComparisonsRecipe = field(default_factory=ComparisonsRecipe)
    pretraining_costs: Mapping[str, PretrainingCost] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyResults:
    """Everything that a page's text is computed from. rows: `results.parquet`."""

    tasks: Sequence[TaskResults]
    rows: pl.DataFrame
    background: Background


@dataclass(frozen=True)
class Report:
    """A page and its numbers. Files: `report.html`, and the tables `results.parquet`, `differences.parquet`,
    `comparisons.parquet` and `zero_shot.parquet`."""

    folder: Path

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.folder / "report.html"

    def results(self) -> pl.DataFrame:
        """One row per task, model, fraction and site, columns as in `tables.RESULT_SCHEMA`."""
        return pl.read_parquet(self.folder / "results.parquet")

    def differences(self) -> pl.DataFrame:
        """One row per task, site, fraction and other model, columns as in `tables.DIFFERENCE_SCHEMA`."""
        return pl.read_parquet(self.folder / "differences.parquet")

    def comparisons(self) -> pl.DataFrame:
        """One row per planned comparison, site and fraction, columns as in `comparisons.SCHEMA`."""
        return pl.read_parquet(self.folder / "comparisons.parquet")

    def zero_shot(self) -> pl.DataFrame:
        """One row per task, pretrained network, site and way of scoring, columns as in `zero_shot.SCHEMA`."""
        return pl.read_parquet(self.folder / "zero_shot.parquet")
