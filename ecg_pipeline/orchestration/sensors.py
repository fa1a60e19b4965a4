"""What happens by itself: `new_ecgs`, once it is switched on in the UI, and `dead_runs`, always.

`new_ecgs` looks at the drop folders every hour and brings the data of changed sites up to date, so that new files cost
only themselves. Nothing is trained because a file arrived: that is a decision with a date (`schedules`).
"""

from collections.abc import Sequence

import dagster as dg

from ecg_pipeline.orchestration.runs import end_dead_runs

DATA_GROUPS = ("records", "signals", "images")

HOURLY = dg.AutomationCondition.on_cron("0 * * * *")
ON_NEW_DATA = dg.AutomationCondition.eager()


def automated(assets: Sequence[dg.AssetsDefinition | dg.SourceAsset]) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The assets, with the condition on which a site's data are made anew; source assets carry their own."""

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        is_data = spec.group_name in DATA_GROUPS and spec.partitions_def is not None
        return spec.replace_attributes(automation_condition=ON_NEW_DATA) if is_data else spec

    return [
        asset.map_asset_specs(with_condition) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets
    ]


def study_sensors() -> list[dg.SensorDefinition]:
    """Sensors `new_ecgs` and `dead_runs`."""
    new_ecgs = dg.AutomationConditionSensorDefinition(
        "new_ecgs",
        target=dg.AssetSelection.groups(*DATA_GROUPS, include_sources=True),
        description="Looks at the drop folders every hour and brings the data of changed sites up to date.",
    )

    @dg.sensor(
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Marks runs as failed whose process was killed, so that nothing waits for them.",
    )
    def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        ended = end_dead_runs(context.instance)
        return dg.SkipReason(f"marked as failed: {', '.join(ended)}" if ended else "no run has died")

    return [new_ecgs, dead_runs]
