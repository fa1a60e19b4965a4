"""One version of each ancestor: an output must not mix inputs made of different versions of one ancestor."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Upstream

Place = tuple[str, str | None]
"""An asset and its partition."""


@dataclass(frozen=True)
class Conflict:
    """An ancestor that would go in with several versions. through: by version its readers, nearest to it first."""

    ancestor: Place
    through: dict[str, tuple[Place, ...]]


def conflicts(archive: Archive, upstream: Iterable[Upstream], is_fitted: Callable[[str], bool]) -> tuple[Conflict, ...]:
    """Ancestors that reach an output with more than one data version, by the records of what it reads.

    Looked at are all ancestors on paths that do not pass through something fitted to data (a tokenizer, a checkpoint, a
    model), and what is fitted itself: what stands behind it may be older than what it is applied to.
    """
    readers: dict[Upstream, list[Upstream]] = {}

    def walk(entries: Iterable[Upstream], reader: Upstream | None) -> None:
        for entry in entries:
            is_new = entry not in readers
            read_by = readers.setdefault(entry, [])
            if reader is not None and reader not in read_by:
                read_by.append(reader)
            if is_new and not is_fitted(entry.asset):
                record = archive.find(entry.asset, entry.partition, entry.data_version)
                walk(record.upstream if record else (), entry)

    walk(upstream, None)
    versions: dict[Place, list[Upstream]] = {}
    for entry in readers:
        versions.setdefault(_place(entry), []).append(entry)
    return tuple(
        Conflict(place, {entry.data_version: _ways(entry, readers) for entry in entries})
        for place, entries in versions.items()
        if len(entries) > 1
    )


def outdated(conflict: Conflict, newest: str | None) -> tuple[Place, ...]:
    """What must be made again, in this order: readers of another version than the newest; all, if the newest is not
    among the versions."""
    return tuple(
        dict.fromkeys(place for version, ways in conflict.through.items() if version != newest for place in ways)
    )


def _ways(entry: Upstream, readers: Mapping[Upstream, Sequence[Upstream]]) -> tuple[Place, ...]:
    """All direct and indirect readers of an entry, each after what it reads."""
    after: list[Upstream] = []

    def climb(at: Upstream) -> None:
        for reader in readers[at]:
            if reader not in after:
                climb(reader)
                after.append(reader)

    climb(entry)
    return tuple(dict.fromkeys(_place(reader) for reader in reversed(after)))


def _place(entry: Upstream) -> Place:
    return entry.asset, entry.partition


def partition_name(place: Place) -> str:
    """Name of a partition of an asset, for messages."""
    asset, partition = place
    return f"{asset} {partition}" if partition else asset
