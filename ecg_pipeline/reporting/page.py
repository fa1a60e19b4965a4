"""The reports: one self-contained HTML page per task, and one over all tasks, each with a summary at its head.

A page needs no network, can be printed, and has a light and a dark colour scheme.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from ecg_pipeline.reporting.results import Background, Report, StudyResults, TaskResults
from ecg_pipeline.storage.files import write_parquet, write_text

REVISION = 19
"""Bumped by hand when a page, or a table in it, changes."""


def write_report(
    title: str, tasks: Sequence[TaskResults], background: Background, *, facts: Mapping[str, str], out: Path
) -> Report:
    """Write one page over the given tasks to `out`. facts: how the page was made, printed at its foot.

    A page over several tasks leaves the pictures of the models' maps, which are large, to the pages of the tasks.
    """
    from ecg_pipeline.cohorts.splits import SPLITS
    from ecg_pipeline.evaluation.subgroups import MIN_PATIENTS
    from ecg_pipeline.reporting.comparisons import FEWEST_POSITIVES, subjects
    from ecg_pipeline.reporting.costs import EQUAL, pretraining_costs
    from ecg_pipeline.reporting.environment import environment
    from ecg_pipeline.reporting.outline import HEADINGS, TABLE_NUMBERS, TASK_HEADINGS
    from ecg_pipeline.reporting.papers import PAPERS
    from ecg_pipeline.reporting.performance import COMPARISON_HEADINGS
    from ecg_pipeline.reporting.plots import pretraining_figures
    from ecg_pipeline.reporting.sections import task_section
    from ecg_pipeline.reporting.starts import model_starts
    from ecg_pipeline.reporting.summary import LEVEL, summary_of
    from ecg_pipeline.reporting.tables import in_words
    from ecg_pipeline.reporting.tripod import tripod_items
    from ecg_pipeline.reporting.zero_shot import zero_shot_rows

    paper = PAPERS[background.paper] if background.paper else None
    sections = [task_section(task, background, paper, saliency_pictures=len(tasks) == 1) for task in tasks]
    results = pl.concat([section.results for section in sections])
    write_parquet(out / "results.parquet", results)
    write_parquet(out / "differences.parquet", pl.concat([section.differences for section in sections]))
    write_parquet(out / "zero_shot.parquet", pl.concat([zero_shot_rows(task) for task in tasks]))
    summaries = [
        summary_of(
            subject,
            results.filter(pl.col("task").is_in([task.name for task in subject.tasks])),
            {name: in_words(subject.tasks[0], name) for name in subject.populations},
        )
        for subject in subjects(tasks, background.comparisons, seed=background.evaluation.seed)
    ]
    write_parquet(out / "comparisons.parquet", pl.concat([summary.table for summary in summaries]))
    study = StudyResults(tasks, results, background)
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            title=title,
            tasks=sections,
            summaries=summaries,
            pretraining_costs=pretraining_costs(background),
            background=background,
            paper=paper,
            optimistic=bool(results["optimistic"].any()),
            pretraining_figures=pretraining_figures(background),
            starts=model_starts(results, background),
            deviations=paper.deviations(study) if paper else [],
            tripod=tripod_items(study),
            facts=facts,
            headings=HEADINGS,
            headings_of_a_task=TASK_HEADINGS,
            numbers=TABLE_NUMBERS,
            comparison_headings=COMPARISON_HEADINGS,
            splits=SPLITS,
            min_patients=MIN_PATIENTS,
            fewest_positives=FEWEST_POSITIVES,
            equal=EQUAL,
            level=LEVEL,
        )
    )
    write_text(out / "report.html", page)
    return Report(out)
