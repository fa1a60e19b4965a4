"""Automation conditions: when the daemon makes a site's data anew, once the sensor `new_ecgs` is switched on.

Whether data are stale is read from their records and from the last look at the site's folder, not from what happened
since the evaluation before: that would be lost where a run ends and a look is taken between two evaluations.
"""

from collections.abc import Sequence

import dagster as dg

from ecg_pipeline.orchestration.assets.ingest import HOUR, RAW
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.orchestration.resources import Workspace

DATA_GROUPS = ("ingest", "signals", "images")


class Stale(dg.AutomationCondition[dg.AssetKey]):
    """True of partitions made of other inputs than the current ones; of files, as they were last observed."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    @property
    def name(self) -> str:
        """Name of the condition in the UI."""
        return "stale"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """The stale ones of the candidate partitions."""
        view, key = context.asset_graph_view, context.key
        sites = context.partitions_def
        assert sites is not None
        stale = {
            site
            for site in context.candidate_subset.expensively_compute_partition_keys()
            if self._is_stale(view.asset_graph, view.instance, key, site)
        }
        return dg.AutomationResult(context, view.get_subset_from_partition_keys(key, sites, stale))

    def _is_stale(self, graph: AssetGraph, instance: dg.DagsterInstance, key: dg.AssetKey, site: str | None) -> bool:
        record = self.workspace.archive.newest(key.to_user_string(), site)
        went_in = {(of.asset, of.partition): of.data_version for of in record.upstream} if record else {}
        read = upstream_partitions(graph, key, site)
        versions = {(of.to_user_string(), part): self._version(instance, of, part) for of, part in read}
        if versions.get((RAW.to_user_string(), site), "") is None:
            return False
        stand = {of: version for of, version in versions.items() if version is not None}
        return stand != went_in or any(self._is_stale(graph, instance, of, part) for of, part in read if of != RAW)

    def _version(self, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
        if key == RAW:
            return last_seen(instance, partition)
        made = self.workspace.archive.newest(key.to_user_string(), partition)
        return made.data_version if made else None


def last_seen(instance: dg.DagsterInstance, site: str | None) -> str | None:
    """Version of a site's files at the last plausible observation; None before any."""
    of_site = dg.AssetRecordsFilter(RAW, asset_partitions=[site] if site else None)
    for seen in instance.fetch_observations(of_site, limit=1).records:
        assert seen.asset_observation is not None
        return seen.asset_observation.data_version
    return None


def automated(
    assets: Sequence[dg.AssetsDefinition | dg.SourceAsset], workspace: Workspace
) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Attach the condition for making a site's data anew to the assets; source assets carry their own.

    What failed is tried again at the next full hour, or as soon as what it reads has changed.
    """
    requested = dg.AutomationCondition.newly_requested()
    changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    # Two conditions, because Dagster tells which of two events in one evaluation came first only where each is single.
    may_be_asked = dg.AutomationCondition.cron_tick_passed(HOUR).since(requested) | changed.since(requested)
    condition = (
        Stale(workspace)
        & may_be_asked
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("stale, and not asked for in vain since the last look")

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        is_data = spec.group_name in DATA_GROUPS and spec.partitions_def is not None
        return spec.replace_attributes(automation_condition=condition) if is_data else spec

    return [
        asset.map_asset_specs(with_condition) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets
    ]
