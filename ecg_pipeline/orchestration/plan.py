"""What is due, in the order of the graph, as runs: a run is one partition of assets that are cut the same way."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import AssetKey

from ecg_pipeline.orchestration.partitions import AssetGraph, dimensions
from ecg_pipeline.orchestration.resources import House
from ecg_pipeline.provenance.archive import NotMaterialised
from ecg_pipeline.provenance.record import build_id


@dataclass(frozen=True)
class Run:
    """Assets to materialise together, and their partition."""

    assets: tuple[AssetKey, ...]
    partition: str | None


def chapters(graph: AssetGraph, selected: frozenset[AssetKey]) -> list[list[AssetKey]]:
    """The selected assets in groups that are cut the same way, each after or beside what it reads."""
    left = [key for key in graph.toposorted_asset_keys if key in selected and graph.get(key).is_materializable]
    groups: list[list[AssetKey]] = []
    while left:
        group: list[AssetKey] = []
        for key in left:
            same_cut = graph.get(key).partitions_def == graph.get(left[0]).partitions_def
            waits = (graph.get(key).parent_keys & set(left)) - set(group)
            if same_cut and not waits:
                group.append(key)
        groups.append(group)
        left = [key for key in left if key not in group]
    return groups


def is_due(house: House, graph: AssetGraph, key: AssetKey, partition: str | None) -> bool:
    """Whether what would go in now differs from what the newest record says went in."""
    record = house.archive.newest(key.to_user_string(), partition)
    if record is None:
        return True
    try:
        upstream = house.upstream(graph, key, partition)
    except NotMaterialised:
        return True
    return record.build != build_id(graph.get(key).code_version or "", upstream)


def due_runs(
    house: House, graph: AssetGraph, selected: frozenset[AssetKey], wanted: Sequence[str] = ()
) -> Iterator[Run]:
    """The runs that are due, found as the work goes on: each is looked for when the one before it is done.

    wanted: partition keys, or keys of single dimensions such as a site; none means all.
    """
    for group in chapters(graph, selected):
        definition = graph.get(group[0]).partitions_def
        for partition in definition.get_partition_keys() if definition else [None]:
            if not _is_wanted(definition, partition, wanted):
                continue
            due: list[AssetKey] = []
            for key in group:
                if graph.get(key).parent_keys & set(due) or is_due(house, graph, key, partition):
                    due.append(key)
            if due:
                yield Run(tuple(due), partition)


def _is_wanted(definition: dg.PartitionsDefinition | None, partition: str | None, wanted: Sequence[str]) -> bool:
    if definition is None or partition is None or not wanted or partition in wanted:
        return True
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return not set(wanted) & set(definition.get_partition_keys())
    own = dimensions(definition, partition)
    asked = {
        dimension.name: set(wanted) & set(dimension.partitions_def.get_partition_keys())
        for dimension in definition.partitions_defs
    }
    return all(not keys or own[name] in keys for name, keys in asked.items())
