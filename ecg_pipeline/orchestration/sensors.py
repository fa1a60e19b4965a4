"""Sensors: `new_ecgs`, once it is switched on in the UI, and `dead_runs`, always.

`new_ecgs` observes the drop folders every hour and materialises the data assets of changed sites. New files never start
a training: models are retrained on a schedule (`schedules`).
"""

import dagster as dg

from ecg_pipeline.orchestration.automation import DATA_GROUPS
from ecg_pipeline.orchestration.runs import end_dead_runs


def study_sensors() -> list[dg.SensorDefinition]:
    """Sensors `new_ecgs` and `dead_runs`."""
    new_ecgs = dg.AutomationConditionSensorDefinition(
        "new_ecgs",
        target=dg.AssetSelection.groups(*DATA_GROUPS, include_sources=True),
        description="Observes the drop folders every hour and materialises the data of changed sites.",
        use_user_code_server=True,
    )

    @dg.sensor(
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process was killed, so that nothing waits for them.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        return dg.SkipReason(f"marked as failed: {', '.join(ended)}" if ended else "no dead runs")

    return [new_ecgs, dead_runs]
