"""What happens by itself once a sensor is switched on in the UI; both are off until then.

`new_ecgs` looks at the drop folders every hour and brings the data of changed sites up to date, so that new files cost
only themselves. `retraining` trains and evaluates anew on the first night of a month, after its data are up to date.
Neither retrains because a file arrived: that is a decision with a date.
"""

from collections.abc import Sequence

import dagster as dg

DATA_GROUPS = ("records", "signals", "images")

HOURLY = dg.AutomationCondition.on_cron("0 * * * *")
ON_NEW_DATA = dg.AutomationCondition.eager()
MONTHLY = dg.AutomationCondition.on_cron("0 2 1 * *")


def automated(assets: Sequence[dg.AssetsDefinition | dg.SourceAsset]) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """The assets with the condition on which each is made anew; source assets carry their own."""

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        return spec.replace_attributes(automation_condition=ON_NEW_DATA if spec.group_name in DATA_GROUPS else MONTHLY)

    return [
        asset.map_asset_specs(with_condition) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets
    ]


def study_sensors() -> list[dg.AutomationConditionSensorDefinition]:
    """Sensors `new_ecgs` and `retraining`."""
    data = dg.AssetSelection.groups(*DATA_GROUPS)
    return [
        dg.AutomationConditionSensorDefinition("new_ecgs", target=data),
        dg.AutomationConditionSensorDefinition("retraining", target=dg.AssetSelection.all(include_sources=True) - data),
    ]
