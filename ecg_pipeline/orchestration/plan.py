"""Plan of runs for what is stale, in topological order: a run is one partition of consecutive assets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import dagster as dg
from dagster import AssetKey

from ecg_pipeline.orchestration.partitions import AssetGraph, dimensions, upstream_partitions
from ecg_pipeline.orchestration.resources import Workspace
from ecg_pipeline.provenance.archive import NotMaterialised

Node = tuple[AssetKey, str | None]
"""An asset and its partition."""


@dataclass(frozen=True)
class Run:
    """Assets to materialise one after the other in one Dagster run, and their partition."""

    assets: tuple[AssetKey, ...]
    partition: str | None

    @property
    def nodes(self) -> list[Node]:
        """Each asset with the partition."""
        return [(key, self.partition) for key in self.assets]


class Plan:
    """Selected partitions that are not up to date yet, and the upstream partitions that each waits for.

    wanted: partition keys, or keys of single dimensions such as a site; none means all. Whether a partition is stale is
    decided once all its upstream partitions are up to date.
    """

    def __init__(
        self, workspace: Workspace, graph: AssetGraph, selected: frozenset[AssetKey], wanted: Sequence[str] = ()
    ):
        self.workspace = workspace
        self.graph = graph
        nodes = list(partitions_of(graph, selected, wanted))
        known = set(nodes)
        self._waits = {
            node: {(k, p) for k, p in upstream_partitions(graph, *node) if (k, p) in known} for node in nodes
        }
        self._running: set[Node] = set()

    def next_run(self) -> Run | None:
        """The next stale run that is ready to start; None if there is none now."""
        while True:
            ready = [node for node, waits in self._waits.items() if not waits and node not in self._running]
            for node in ready:
                if is_stale(self.workspace, self.graph, node):
                    run = self._run_from(node)
                    self._running.update(run.nodes)
                    return run
                self._mark_up_to_date(node)
            if not ready:
                return None

    def finish(self, run: Run) -> None:
        """Record that a run has ended. Partitions that are still stale have failed: skip them and all downstream."""
        for node in run.nodes:
            if node not in self._waits:
                continue
            if is_stale(self.workspace, self.graph, node):
                self._skip(node)
            else:
                self._mark_up_to_date(node)
        self._running -= set(run.nodes)

    def _run_from(self, node: Node) -> Run:
        """Run of a node with those downstream that wait only for it, and with those that read the same source files."""
        first, partition = node
        taken = [first]
        for key in self.graph.toposorted_asset_keys:
            waits = self._waits.get((key, partition))
            is_same_cut = self.graph.get(key).partitions_def == self.graph.get(first).partitions_def
            if waits is None or key == first or not is_same_cut:
                continue
            follows = waits and waits <= {(k, partition) for k in taken}
            if follows or (not waits and self._reads_same_source(first, key, partition)):
                taken.append(key)
        return Run(tuple(taken), partition)

    def _reads_same_source(self, one: AssetKey, other: AssetKey, partition: str | None) -> bool:
        """Whether two assets read one partition of a source, so that one listing of it must serve both."""
        sources = [
            {read for read in upstream_partitions(self.graph, key, partition) if read[1] and self._is_source(read[0])}
            for key in (one, other)
        ]
        return bool(sources[0] & sources[1])

    def _is_source(self, key: AssetKey) -> bool:
        return not self.graph.get(key).is_materializable

    def _mark_up_to_date(self, node: Node) -> None:
        del self._waits[node]
        for waits in self._waits.values():
            waits.discard(node)

    def _skip(self, node: Node) -> None:
        del self._waits[node]
        for other in [other for other, waits in self._waits.items() if node in waits]:
            if other in self._waits:
                self._skip(other)


def is_stale(workspace: Workspace, graph: AssetGraph, node: Node) -> bool:
    """Whether the code version or an upstream version differs from those in the newest record."""
    key, partition = node
    record = workspace.archive.newest(key.to_user_string(), partition)
    if record is None:
        return True
    try:
        upstream = workspace.upstream(graph, key, partition)
    except (NotMaterialised, FileNotFoundError):
        return True
    return not record.is_of(graph.get(key).code_version or "", upstream)


def partitions_of(graph: AssetGraph, selected: frozenset[AssetKey], wanted: Sequence[str] = ()) -> Iterator[Node]:
    """Every wanted partition of the selected assets, in topological order."""
    for key in graph.toposorted_asset_keys:
        if key in selected and graph.get(key).is_materializable:
            definition = graph.get(key).partitions_def
            for partition in definition.get_partition_keys() if definition else [None]:
                if _is_wanted(definition, partition, wanted):
                    yield key, partition


def _is_wanted(definition: dg.PartitionsDefinition | None, partition: str | None, wanted: Sequence[str]) -> bool:
    if definition is None or partition is None or not wanted or partition in wanted:
        return True
    if not isinstance(definition, dg.MultiPartitionsDefinition):
        return not set(wanted) & set(definition.get_partition_keys())
    own = dimensions(definition, partition)
    requested = {
        dimension.name: set(wanted) & set(dimension.partitions_def.get_partition_keys())
        for dimension in definition.partitions_defs
    }
    if not any(requested.values()):
        return not set(wanted) & set(definition.get_partition_keys())
    return all(not keys or own[name] in keys for name, keys in requested.items())
