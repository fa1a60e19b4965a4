"""The reports: one self-contained HTML page a task, and one over all tasks (the paper's tables and figures).

A page needs no network, prints, and reads in light and dark.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule
from ecg_pipeline.reporting.results import Background, Report, TaskResults
from ecg_pipeline.storage.files import write_parquet, write_text

REVISION = 10
"""Bumped by hand when a page, or a table in it, changes."""

Rule = MeasurementRule | DiagnosisRule | StatementRule


def outcome(rule: Rule) -> str:
    """When an ECG is positive, in words."""
    match rule:
        case MeasurementRule():
            return f"{rule.code} of at most {rule.at_most:g}, measured within {rule.window_days} days of the ECG."
        case DiagnosisRule():
            return f"a diagnosis of {rule.code}; negative where it was looked for and excluded."
        case StatementRule():
            least = f" with a likelihood of at least {rule.minimum_likelihood:g}" if rule.minimum_likelihood else ""
            without = f"; ECGs with one of {', '.join(rule.exclude)} are left out" if rule.exclude else ""
            return f"the ECG carries one of {', '.join(rule.positive)} ({rule.system}){least}{without}."


def write_report(
    title: str, tasks: Sequence[TaskResults], background: Background, facts: Mapping[str, str], out: Path
) -> Report:
    """Write one page over the given tasks to `out`. facts: what made the page, printed at its foot."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    from ecg_pipeline.reporting.papers.heartbeit.deviations import deviations
    from ecg_pipeline.reporting.papers.heartbeit.tables import published
    from ecg_pipeline.reporting.sections import pretraining_figures, section
    from ecg_pipeline.reporting.tripod import tripod_items

    sections = [section(task, background) for task in tasks]
    results = pl.concat([made["results"] for made in sections])
    write_parquet(out / "results.parquet", results)
    write_parquet(out / "differences.parquet", pl.concat([made["differences"] for made in sections]))
    environment = Environment(
        loader=PackageLoader("ecg_pipeline.reporting"),
        autoescape=select_autoescape(default_for_string=True, enabled_extensions=("j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typeset,
    )
    environment.filters |= {"count": _count, "figure": _figure, "chance": _chance, "threshold": _threshold}
    page = environment.get_template("page.html.j2").render(
        title=title,
        background=background,
        optimistic=bool(results["optimistic"].any()),
        tasks=sections,
        paper=published(),
        pretraining_figures=pretraining_figures(background),
        deviations=deviations(tasks, results, background),
        tripod=tripod_items(tasks, results, background),
        facts=facts,
    )
    write_text(out / "report.html", page)
    return Report(out)


def _count(value: float) -> str:
    """A number of things, whole unless it is a mean."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _figure(value: float | None, digits: int = 2) -> str:
    """A figure, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _threshold(score: float | None) -> str:
    """A score with as many digits as tell it from 0."""
    return _figure(score, 3) if score is None or score >= 0.001 else f"{score:.1g}"


def _chance(p: float | None) -> str:
    """A p value."""
    return "< 0.001" if p is not None and p < 0.001 else _figure(p, 3)


def _typeset(value: Any) -> Any:
    """A value as it is printed: no line breaks between a number and its percent sign. Markup is left alone."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value
