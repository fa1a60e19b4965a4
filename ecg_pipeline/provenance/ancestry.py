"""One version of each ancestor: an output is not made of parts that were made of different versions of one thing."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Upstream

Place = tuple[str, str | None]
"""An asset and its partition."""


@dataclass(frozen=True)
class Conflict:
    """An ancestor that would go in with several versions. through: what each version came by, nearest to it."""

    ancestor: Place
    through: dict[str, tuple[Place, ...]]


def conflicts(archive: Archive, upstream: Iterable[Upstream], is_fitted: Callable[[str], bool]) -> tuple[Conflict, ...]:
    """Ancestors that reach an output with more than one data version, by the records of what it reads.

    Looked at are all ancestors on paths that do not pass through something fitted to data (a tokenizer, a checkpoint, a
    model), and what is fitted itself: what stands behind it may be older than what it is applied to.
    """
    found: dict[Place, dict[str, list[Place]]] = {}
    seen: set[tuple[Place, str]] = set()

    def walk(entries: Iterable[Upstream], reader: Place | None) -> None:
        for entry in entries:
            place = entry.asset, entry.partition
            by_version = found.setdefault(place, {}).setdefault(entry.data_version, [])
            if reader is not None and reader not in by_version:
                by_version.append(reader)
            if (place, entry.data_version) in seen or is_fitted(entry.asset):
                continue
            seen.add((place, entry.data_version))
            record = archive.find(*place, entry.data_version)
            walk(record.upstream if record else (), place)

    walk(upstream, None)
    return tuple(
        Conflict(place, {version: tuple(readers) for version, readers in versions.items()})
        for place, versions in found.items()
        if len(versions) > 1
    )


def outdated(conflict: Conflict, newest: str | None) -> tuple[Place, ...]:
    """Who brings in another version than the newest: what must be made again. Everybody, where it is not among them."""
    return tuple(
        dict.fromkeys(place for version, readers in conflict.through.items() if version != newest for place in readers)
    )


def told(place: Place) -> str:
    """A partition of an asset in words."""
    asset, partition = place
    return f"{asset} {partition}" if partition else asset
