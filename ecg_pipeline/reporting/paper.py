"""A published paper that a study reproduces: its tables beside the study's own, and where the two differ."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ecg_pipeline.reporting.estimate import Estimate
from ecg_pipeline.reporting.results import StudyResults

Published = Mapping[str, Mapping[str, Mapping[str, Sequence[Estimate]]]]
"""Estimates for each fraction, by task, split and model."""


@dataclass(frozen=True)
class PublishedTables:
    """Tables of a paper, as printed there.

    models, splits: names in words by key. cohorts: ECGs and percentage of positives by task and split. metrics: by the
    name of the metric that they are compared with. distances: between images, in grey levels, by `ImageDistance`'s
    names. contradictions: sentences by task, those of the whole paper under `all`.
    """

    title: str
    fractions: tuple[float, ...]
    models: Mapping[str, str]
    splits: Mapping[str, str]
    cohorts: Mapping[str, Mapping[str, tuple[int, float]]]
    metrics: Mapping[str, Published]
    distances: Mapping[str, float]
    contradictions: Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Deviation:
    """What the paper (its text, or the code that was released with it) does, what is done here, and the effect."""

    paper: str
    here: str
    effect: str


@dataclass(frozen=True)
class Paper:
    """What a page prints of a paper.

    tables: reads its tables. source: which of them the page prints, with a remark. optimistic: sentence on results
    whose epoch was chosen on test patients. deviations: of a study from the paper, the most important first.
    """

    tables: Callable[[], PublishedTables]
    source: str
    optimistic: str
    deviations: Callable[[StudyResults], list[Deviation]]
