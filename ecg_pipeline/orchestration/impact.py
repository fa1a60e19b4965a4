"""What would run again, partition by partition, with the reasons, before anything is run.

The study and the files as they are now are compared with the newest records, as a run compares them. What is
downstream of something that runs need not run: a data version is a digest of content, so an output that is made again
with the same content stops the change.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from ecg_pipeline.orchestration.identity import payload_of
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.orchestration.plan import Node, partitions_of
from ecg_pipeline.orchestration.resources import HOSPITAL_SYSTEM, Workspace
from ecg_pipeline.provenance.diff import changes
from ecg_pipeline.provenance.lineage import place_name
from ecg_pipeline.provenance.record import Record


class Cause(StrEnum):
    """Why a partition runs, or may run."""

    NEVER_MADE = "never made"
    SETTING = "setting changed"
    FILES = "files changed"
    UPSTREAM = "upstream changed"
    MAY_CHANGE = "upstream may change"


@dataclass(frozen=True)
class Reason:
    """A reason to run a partition. what: a setting with both values, an upstream output, or nothing more to say."""

    cause: Cause
    what: str = ""


@dataclass(frozen=True)
class Impact:
    """A partition that runs, or runs if the content of what it reads changes.

    is_certain: whether it runs in any case. seconds: those of its last record, or the median of the asset's other
    partitions, which is an estimate; None if the asset was never made.
    """

    asset: str
    partition: str | None
    is_certain: bool
    reasons: tuple[Reason, ...]
    seconds: float | None
    is_estimate: bool


def impact(workspace: Workspace, graph: AssetGraph) -> list[Impact]:
    """Every partition that running what is stale would make, or might, in topological order. Changes nothing.

    A run then makes each certain partition, and of the others those whose inputs have other content by then.
    """
    comparison = _Comparison(workspace, graph)
    for node in partitions_of(graph, frozenset(graph.materializable_asset_keys)):
        comparison.add(node)
    return list(comparison.running.values())


@dataclass
class _Comparison:
    """The present compared with the records. running: what runs or may run, so far."""

    workspace: Workspace
    graph: AssetGraph
    running: dict[Node, Impact] = field(default_factory=dict)
    _source_versions: dict[Node, str | FileNotFoundError] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Compare a partition whose upstream partitions were compared before."""
        record = self._newest(node)
        reasons = tuple(self._reasons(node, record)) if record else (Reason(Cause.NEVER_MADE),)
        if reasons:
            is_certain = any(reason.cause != Cause.MAY_CHANGE for reason in reasons)
            seconds = record.seconds if record else self._usual_seconds(node)
            self.running[node] = Impact(
                node[0].to_user_string(), node[1], is_certain, reasons, seconds, is_estimate=record is None
            )

    def _reasons(self, node: Node, record: Record) -> Iterator[Reason]:
        key, partition = node
        asset = self.graph.get(key)
        if record.as_stated(asset.code_version or "") != record.as_stated(record.code_version):
            for one in changes(record.identity, payload_of(asset)):
                yield Reason(Cause.SETTING, f"{one.field}: {one.a} → {one.b}")
        recorded = {place_name(entry.asset, entry.partition): entry.data_version for entry in record.upstream}
        read = {place_name(of[0].to_user_string(), of[1]): of for of in upstream_partitions(self.graph, key, partition)}
        yield from (Reason(Cause.UPSTREAM, f"{name} is no longer read") for name in recorded if name not in read)
        are_rewritten = any(of[0] == HOSPITAL_SYSTEM and of in self.running for of in read.values())
        for name, of in read.items():
            if name not in recorded:
                yield Reason(Cause.UPSTREAM, f"{name} is read now")
            elif of in self.running:
                yield Reason(Cause.MAY_CHANGE, name)
            elif of[0] in self.workspace.source_versions:
                # A synthetic study's files are written again first, and may be the recorded ones then.
                found = None if are_rewritten else self._changed_files(of, record.as_stated, recorded[name])
                if found is not None:
                    yield Reason(Cause.FILES, f"{name}{found}")
            elif (newest := self._newest(of)) and record.as_stated(newest.data_version) != recorded[name]:
                yield Reason(Cause.UPSTREAM, name)

    def _changed_files(self, of: Node, as_stated: Callable[[str], str], recorded: str) -> str | None:
        """What to add to the name of a source whose files are not the recorded ones; None if they are."""
        if of not in self._source_versions:
            try:
                self._source_versions[of] = self.workspace.source_versions[of[0]](of[1])
            except FileNotFoundError as missing:
                self._source_versions[of] = missing
        version = self._source_versions[of]
        if isinstance(version, FileNotFoundError):
            return f": {version}"
        return None if as_stated(version) == recorded else ""

    def _newest(self, node: Node) -> Record | None:
        return self.workspace.archive.newest(node[0].to_user_string(), node[1])

    def _usual_seconds(self, node: Node) -> float | None:
        """The median time of the other partitions of an asset; None if none was made."""
        partitions = partitions_of(self.graph, frozenset([node[0]]))
        seconds = [record.seconds for other in partitions if (record := self._newest(other))]
        return median(seconds) if seconds else None
