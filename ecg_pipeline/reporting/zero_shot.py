"""The zero-shot section of a page: pretrained networks tried on prompts, beside their controls."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from ecg_pipeline.evaluation.zero_shot import ALL, PRETRAINED, TURN, UNTRAINED, ZeroShot
from ecg_pipeline.metrics.table import WITH_INTERVAL
from ecg_pipeline.models.start import START_WORDS
from ecg_pipeline.reporting.estimate import Estimate, estimate
from ecg_pipeline.reporting.results import TaskResults
from ecg_pipeline.reporting.starts import start_lines

COUNTS = ("ecgs", "patients", "positives")

SCHEMA = {
    "task": pl.String,
    "model": pl.String,
    **dict.fromkeys(START_WORDS, pl.String),
    "site": pl.String,
    "role": pl.String,
    **dict.fromkeys(TURN, pl.String),
    "seeds": pl.Int64,
    **dict.fromkeys(COUNTS, pl.Int64),
    **{f"{metric.name}{end}": pl.Float64 for metric in WITH_INTERVAL for end in ("", "_low", "_high", "_sd")},
    "reason": pl.String,
}
"""Columns of `zero_shot.parquet`. network, prompts, language: as in `ZeroShot.predictions`; null where there is no
score, and `reason` says why."""


@dataclass(frozen=True)
class Asked:
    """A prompt as it was encoded. tokens: how many it has; unknown: how many of these the tokenizer does not know."""

    task: str
    language: str
    words: str
    tokens: int
    unknown: int


@dataclass(frozen=True)
class Line:
    """A network at one site by the prompts in one language, or in all.

    values: of the own prompts, by the names of the metrics with an interval. untrained: AUROC of the untrained network.
    others: AUROC with the prompts of other tasks, in the order of the section; None where these lack the language, or,
    in the line of all languages, one of them.
    """

    language: str
    values: Mapping[str, Estimate]
    untrained: Estimate
    others: list[Estimate | None]


@dataclass(frozen=True)
class Tried:
    """A network at one site. starts: lines on its weights. reason: why there are no lines."""

    model: str
    starts: list[str]
    site: str
    seeds: int
    ecgs: int
    patients: int
    positives: int
    lines: list[Line]
    reason: str | None


@dataclass(frozen=True)
class ZeroShotSection:
    """What is printed of one task. others: names of the tasks whose prompts are the control."""

    prompts: list[Asked]
    others: list[str]
    tried: list[Tried]


def zero_shot_rows(task: TaskResults) -> pl.DataFrame:
    """The numbers of a task, columns as in `SCHEMA`."""
    rows = []
    for (model, site), made in task.zero_shots.items():
        metrics = made.metrics()
        row: dict[str, Any] = {"task": task.name, "model": model, "site": site, "role": task.roles[site]}
        row |= {name: metrics["model"].get(name) for name in START_WORDS}
        row |= {name: metrics[name] for name in COUNTS} | {"seeds": len(metrics["model"]["seeds"])}
        for scored in metrics["scores"] or [{"reason": metrics["reason"]}]:
            turn = {name: scored.get(name) for name in (*TURN, "reason")}
            rows.append(row | turn | _values(scored))
    return pl.DataFrame(rows, schema=SCHEMA)


def zero_shot_section(task: TaskResults) -> ZeroShotSection:
    """The section of a task that has prompts."""
    asked = next(iter(task.zero_shots.values())).metrics()["prompts"]
    others = [name for name in asked if name != task.name]
    prompts = [Asked(name, language, **said) for name in asked for language, said in asked[name].items()]
    tried = [_tried(task, model, site, made, others=others) for (model, site), made in task.zero_shots.items()]
    return ZeroShotSection(prompts, others, tried)


def _tried(task: TaskResults, model: str, site: str, made: ZeroShot, *, others: list[str]) -> Tried:
    metrics = made.metrics()
    about, asked, own = metrics["model"], metrics["prompts"], task.name
    by_turn = {tuple(row[name] for name in TURN): row for row in metrics["scores"] if "reason" not in row}
    reasons = [metrics.get("reason"), *(row.get("reason") for row in metrics["scores"])]

    def auroc(network: str, prompts: str, language: str) -> Estimate | None:
        row = by_turn.get((network, prompts, language))
        return estimate(_values(row), WITH_INTERVAL[0].name) if row else None

    def of_other(task: str, language: str) -> Estimate | None:
        # A mean over fewer languages is no control of the mean over all.
        is_whole = asked[task].keys() == asked[own].keys()
        return auroc(PRETRAINED, task, language) if language != ALL or is_whole else None

    languages = [language for network, of, language in by_turn if (network, of) == (PRETRAINED, own)]
    several = len(languages) > 2
    lines = [
        Line(
            language=language,
            values={
                metric.name: estimate(_values(by_turn[PRETRAINED, own, language]), metric.name)
                for metric in WITH_INTERVAL
            },
            untrained=auroc(UNTRAINED, own, language) or Estimate(None, None, None),
            others=[of_other(other, language) for other in others],
        )
        for language in sorted(languages, key=lambda one: (one != ALL, one))
        if several or language != ALL
    ]
    return Tried(
        model=model,
        starts=start_lines({"weights": None, "fitting": None, "pretraining_saw": None, "licence": None, **about}),
        site=f"{site} ({task.roles[site]})",
        seeds=len(about["seeds"]),
        **{name: metrics[name] for name in COUNTS},
        lines=lines,
        reason=next(filter(None, reasons), None),
    )


def _values(scored: Mapping[str, Any]) -> dict[str, float | None]:
    """Value, interval and spread of each metric, by the names of their columns; null where there are none."""
    ends = {"": "value", "_low": "low", "_high": "high", "_sd": "sd"}
    return {
        f"{metric.name}{end}": (scored.get(metric.name) or {}).get(key)
        for metric in WITH_INTERVAL
        for end, key in ends.items()
    }
