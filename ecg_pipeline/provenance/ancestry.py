"""Consistency of an output's inputs: they must not come from different versions of one ancestor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import CUT, Upstream

Place = tuple[str, str | None]
"""An asset key and a partition."""


@dataclass(frozen=True)
class Conflict:
    """An ancestor that is upstream in several versions. through: its descendants by version, nearest first."""

    ancestor: Place
    through: dict[str, tuple[Place, ...]]


def conflicts(archive: Archive, upstream: Iterable[Upstream], is_fitted: Callable[[str], bool]) -> tuple[Conflict, ...]:
    """Ancestors that are upstream in more than one data version, by the records of the upstream partitions.

    is_fitted: whether an asset is fitted to data (a tokenizer, checkpoint or model). A fitted ancestor is checked
    itself, but not what it was made from, which may be older than the data it is applied to.
    """
    readers: dict[Upstream, list[Upstream]] = {}

    def walk(entries: Iterable[Upstream], reader: Upstream | None) -> None:
        for entry in map(_shortened, entries):
            is_new = entry not in readers
            read_by = readers.setdefault(entry, [])
            if reader is not None and reader not in read_by:
                read_by.append(reader)
            if is_new and not is_fitted(entry.asset):
                record = archive.find(entry.asset, entry.partition, data_version=entry.data_version)
                walk(record.upstream if record else (), entry)

    walk(upstream, None)
    versions: dict[Place, list[Upstream]] = {}
    for entry in readers:
        versions.setdefault(_place(entry), []).append(entry)
    return tuple(
        Conflict(place, {entry.data_version: _descendants(entry, readers) for entry in entries})
        for place, entries in versions.items()
        if len(entries) > 1
    )


def outdated(conflict: Conflict, newest: str | None) -> tuple[Place, ...]:
    """The descendants to materialise again, in this order: those of every version but the newest.

    newest: data version of the ancestor now; it need not be among the conflicting ones.
    """
    newest = newest[:CUT] if newest else None
    return tuple(
        dict.fromkeys(place for version, places in conflict.through.items() if version != newest for place in places)
    )


def _descendants(entry: Upstream, readers: Mapping[Upstream, Sequence[Upstream]]) -> tuple[Place, ...]:
    """All direct and indirect readers of an entry, in topological order."""
    after: list[Upstream] = []

    def climb(at: Upstream) -> None:
        for reader in readers[at]:
            if reader not in after:
                climb(reader)
                after.append(reader)

    climb(entry)
    return tuple(dict.fromkeys(_place(reader) for reader in reversed(after)))


def _shortened(entry: Upstream) -> Upstream:
    """An entry with the data version that records of every version state."""
    return replace(entry, data_version=entry.data_version[:CUT])


def _place(entry: Upstream) -> Place:
    return entry.asset, entry.partition


def partition_name(place: Place) -> str:
    """Name of a partition of an asset, for messages."""
    asset, partition = place
    return f"{asset} {partition}" if partition else asset
