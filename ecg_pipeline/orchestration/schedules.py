"""Schedules: monthly retraining."""

from collections.abc import Sequence
from typing import Any

import dagster as dg


def study_schedules(jobs: Sequence[Any]) -> list[dg.ScheduleDefinition]:
    """Schedule `retraining`: on the first night of a month, from cohort to report over the data of that day.

    A task whose data did not change is up to date, and nothing of it is trained. The tokenizer and the pretrained
    network are trained again by hand only.
    """
    retrain = next(job for job in jobs if job.name == "retrain")
    return [
        dg.ScheduleDefinition(
            name="retraining",
            job=retrain,
            cron_schedule="0 2 1 * *",
            description="Models whose data changed are trained, evaluated and reported again, once a month.",
        )
    ]
