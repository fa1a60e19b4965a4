"""Automation conditions: when the daemon materialises a site's data again, once the sensor `new_ecgs` is switched on.

Staleness follows from the records and the last observation of the site's folder, not from the events since the previous
evaluation: Dagster misses an event if a run ends and an observation is made between two evaluations.
"""

from collections.abc import Sequence

import dagster as dg

from ecg_pipeline.orchestration.assets.ingest import HOUR, RAW
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.orchestration.resources import Workspace

DATA_GROUPS = ("ingest", "signals", "images")


class Stale(dg.AutomationCondition[dg.AssetKey]):
    """True for partitions whose recorded inputs differ from the current ones; files count as last observed."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace

    @property
    def name(self) -> str:
        """Name of the condition in the UI."""
        return "stale"

    def evaluate(self, context: dg.AutomationContext) -> dg.AutomationResult:
        """The stale partitions among the candidates."""
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
        recorded = {(of.asset, of.partition): of.data_version for of in record.upstream} if record else {}
        read = upstream_partitions(graph, key, site)
        versions = {(of.to_user_string(), partition): self._version(instance, of, partition) for of, partition in read}
        if versions.get((RAW.to_user_string(), site), "") is None:
            return False
        known = {of: version for of, version in versions.items() if version is not None}
        current = {of: record.as_stated(version) for of, version in known.items()} if record else known
        if current != recorded:
            return True
        return any(self._is_stale(graph, instance, of, partition) for of, partition in read if of != RAW)

    def _version(self, instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None) -> str | None:
        if key == RAW:
            return last_observed(instance, partition)
        made = self.workspace.archive.newest(key.to_user_string(), partition)
        return made.data_version if made else None


def last_observed(instance: dg.DagsterInstance, site: str | None) -> str | None:
    """Version of a site's files at the last plausible observation; None before any."""
    of_site = dg.AssetRecordsFilter(RAW, asset_partitions=[site] if site else None)
    for seen in instance.fetch_observations(of_site, limit=1).records:
        assert seen.asset_observation is not None
        return seen.asset_observation.data_version
    return None


def with_automation(
    assets: Sequence[dg.AssetsDefinition | dg.SourceAsset], workspace: Workspace
) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Attach the condition that materialises a site's data again to the assets; source assets carry their own.

    A failed partition is requested again at the next full hour, or as soon as an upstream asset has changed.
    """
    upstream_changed = dg.AutomationCondition.any_deps_match(dg.AutomationCondition.newly_updated())
    event = upstream_changed | dg.AutomationCondition.cron_tick_passed(HOUR)
    # An event of this evaluation is later than a request of the previous one, which cannot have answered it.
    # `since(requested)` would forget it: Dagster compares the times of materialisations, and observations have none.
    may_be_requested = event.since(dg.AutomationCondition.newly_requested() & ~event)
    condition = (
        Stale(workspace)
        & may_be_requested
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
    ).with_label("stale, and not requested since the last observation or hour")

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        is_data = spec.group_name in DATA_GROUPS and spec.partitions_def is not None
        return spec.replace_attributes(automation_condition=condition) if is_data else spec

    return [
        asset.map_asset_specs(with_condition) if isinstance(asset, dg.AssetsDefinition) else asset for asset in assets
    ]
