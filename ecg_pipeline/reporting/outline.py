"""The outline of a page: headings, by the anchors that link to them, and the numbers of its tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from ecg_pipeline.metrics.table import WITH_INTERVAL

HEADINGS = {
    "summary": "In short",
    "studied": "Who was studied",
    "flow": "From files to ECGs",
    "performance": "How well the models do",
    "differences": "Differences between models",
    "figures": "Figures",
    "measures": "Further measures",
    "points": "Operating points",
    "subgroups": "Subgroups",
    "zero_shot": "Zero-shot",
    "saliency": "What the models look at",
    "published": "The paper's results",
    "cost": "What it cost",
    "pretraining": "Pretraining",
    "deviations": "Where this differs from the paper",
    "tripod": "TRIPOD+AI",
}
"""In the order of the page. Those from `studied` to `published` occur once per task."""

TASK_HEADINGS = tuple(HEADINGS)[tuple(HEADINGS).index("studied") : tuple(HEADINGS).index("published") + 1]


@dataclass(frozen=True)
class TableNumbers:
    """Numbers of the tables of a task, in the order of the page. metrics: by name, of those with an interval."""

    studied: int
    metrics: Mapping[str, int]
    measures: int
    operating_points: int
    subgroups: int
    published: int


_AFTER_METRICS = 2 + len(WITH_INTERVAL)

TABLE_NUMBERS = TableNumbers(
    studied=1,
    metrics={metric.name: number for number, metric in enumerate(WITH_INTERVAL, start=2)},
    measures=_AFTER_METRICS,
    operating_points=_AFTER_METRICS + 1,
    subgroups=_AFTER_METRICS + 2,
    published=_AFTER_METRICS + 3,
)


def table_words(first: int, last: int | None = None) -> str:
    """A table or a range of them in words: `Table 1`, `Tables 2 and 3`, `Tables 2 to 6`."""
    if last is None or first == last:
        return f"Table {first}"
    return f"Tables {first} {'and' if last == first + 1 else 'to'} {last}"
