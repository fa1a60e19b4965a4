"""Removes old builds: folders that no newest output, held output or running materialisation needs. Records stay.

Kept are the builds of the newest record and of the held records, and of everything upstream of those, each by the
record that the one downstream names. While a materialisation runs, what was newest at any time since its process
started is kept, too, because it may be reading it; a partition that is being made is left alone.

A folder without a record is an unfinished build, which a run of the same inputs would resume. It is removed only if
another build of its partition was begun after the last change in it: then its run was given up.
"""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from pathlib import Path

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.holds import Holds
from ecg_pipeline.provenance.lease import CLOCK_S, hold, holder
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.record import CUT, Record, Upstream

REASON = "prune"
"""Reason of the ledger's entries."""

REMOVED = ".purged"
"""Suffix of the hidden name that a folder gets before it is deleted."""

_BUILD = re.compile(rf"[0-9a-f]{{{CUT}}}")
_LEFTOVER = re.compile(rf"\.([0-9a-f]{{{CUT}}}){re.escape(REMOVED)}")

Place = tuple[str, str | None]


class Busy(Exception):  # noqa: N818
    """A partition is being made."""


@dataclass(frozen=True)
class OldBuild:
    """A build that is not needed.

    build: digest of its inputs; of an unfinished one only the digits in its folder's name. freed_bytes: of the files
    whose last link this is, once the builds before it are gone. is_finished: whether it has a record.
    """

    asset: str
    partition: str | None
    build: str
    folder: Path
    is_finished: bool
    freed_bytes: int = 0


def old_builds(archive: Archive) -> list[OldBuild]:
    """The builds that can be removed, by asset and partition, and what that frees."""
    history = _history(archive)
    kept = {archive.folder(record) for record in _needed(archive, _roots(archive, history))}
    found = [
        old
        for (asset, partition), records in history.items()
        if holder(archive.place(asset, partition)) is None
        for old in _old_in(archive, asset, partition, records)
        if old.folder not in kept
    ]
    return list(_with_sizes(found))


def prune(archive: Archive, builds: Sequence[OldBuild], progress: Progress = no_progress) -> list[OldBuild]:
    """Remove builds as far as they are still old, and return those that were removed.

    Each is entered in the ledger, renamed to a hidden name, and deleted. After a kill at any point the same call goes
    on, with one entry a build. Partitions that are being made meanwhile are left alone.
    """
    confirmed, removed = {old.folder for old in builds}, []
    still_old = [old for old in old_builds(archive) if old.folder in confirmed]
    entered = _entered(archive)
    for number, old in enumerate(still_old):
        with suppress(Busy), hold(archive.place(old.asset, old.partition), _raise_busy):
            newest = archive.newest(old.asset, old.partition)
            if newest and archive.folder(newest) == old.folder:
                continue
            _remove(archive, old, is_entered=(old.asset, old.partition, old.build[:CUT]) in entered)
            removed.append(old)
        progress(number + 1, len(still_old))
    return removed


def _remove(archive: Archive, old: OldBuild, *, is_entered: bool) -> None:
    """Delete a build; its ledger entry comes first. Call it while the partition's lease is held."""
    if _LEFTOVER.fullmatch(old.folder.name):
        shutil.rmtree(old.folder)
        return
    if not is_entered:
        facts = {"asset": old.asset, "partition": old.partition, "build": old.build, "reason": REASON}
        archive.ledger.append((Kind.PURGED, facts))
    hidden = old.folder.with_name(f".{old.folder.name}{REMOVED}")
    if hidden.exists():
        shutil.rmtree(hidden)
    old.folder.rename(hidden)
    shutil.rmtree(hidden)


def _raise_busy(holder: str) -> None:
    raise Busy(holder)


def _history(archive: Archive) -> dict[Place, list[Record]]:
    """All records by asset and partition, the oldest first."""

    def place(record: Record) -> tuple[str, str]:
        return record.asset, record.partition or ""

    records = sorted(archive.all_records(), key=lambda record: (*place(record), record.ended_at))
    return {(asset, partition or None): list(of) for (asset, partition), of in groupby(records, place)}


def _roots(archive: Archive, history: dict[Place, list[Record]]) -> Iterator[Record]:
    """Records that are kept whatever is downstream of them: newest, held, and newest since a running process began."""
    yield from archive.newest_records()
    yield from Holds(archive).records()
    running = filter(None, (holder(path.parent) for path in archive.root.rglob(".lease")))
    since = min((process.started - CLOCK_S for process in running), default=float("inf"))
    for records in history.values():
        yield from (one for one, after in pairwise(records) if _seconds(after.ended_at) >= since)


def _needed(archive: Archive, roots: Iterable[Record]) -> Iterable[Record]:
    """Some records and those of everything upstream of them."""
    found: dict[str | None, Record] = {}
    seen = set[tuple[Upstream, str | None]]()
    queue = list(roots)
    while queue:
        record = queue.pop()
        if record.digest in found:
            continue
        found[record.digest] = record
        for entry in record.upstream:
            if (entry, entry.record) not in seen:
                seen.add((entry, entry.record))
                queue += filter(None, [archive.upstream_record(entry)])
    return found.values()


def _old_in(archive: Archive, asset: str, partition: str | None, records: Sequence[Record]) -> Iterator[OldBuild]:
    """The builds of a partition but the newest, those that were given up, and what a killed prune left."""
    builds = {record.build[:CUT]: record.build for record in records}
    place = archive.place(asset, partition)
    for folder in sorted(place.iterdir()):
        name = folder.name
        if leftover := _LEFTOVER.fullmatch(name):
            yield OldBuild(asset, partition, leftover[1], folder, is_finished=leftover[1] in builds)
        elif _BUILD.fullmatch(name) and name in builds:
            yield OldBuild(asset, partition, builds[name], folder, is_finished=True)
        elif _BUILD.fullmatch(name) and _last_change(folder) < _seconds(records[-1].started_at):
            yield OldBuild(asset, partition, name, folder, is_finished=False)


def _with_sizes(builds: Iterable[OldBuild]) -> Iterator[OldBuild]:
    """Builds with the bytes that removing them in this order frees: those of a file go with its last link."""
    links: dict[tuple[int, int], int] = {}
    for old in builds:
        freed = 0
        for path in old.folder.rglob("*"):
            state = path.lstat()
            if path.is_symlink() or not path.is_file():
                continue
            links[state.st_dev, state.st_ino] = links.get((state.st_dev, state.st_ino), state.st_nlink) - 1
            if not links[state.st_dev, state.st_ino]:
                freed += state.st_size
        yield OldBuild(old.asset, old.partition, old.build, old.folder, old.is_finished, freed)


def _entered(archive: Archive) -> set[tuple[str, str | None, str]]:
    """Builds whose last entry in the ledger says that they were purged."""
    last: dict[tuple[str, str | None, str], str] = {}
    for entry in archive.ledger.entries():
        if entry.kind in (Kind.MADE, Kind.PURGED) and "build" in entry.facts:
            facts = entry.facts
            last[facts["asset"], facts["partition"], facts["build"][:CUT]] = entry.kind
    return {build for build, kind in last.items() if kind == Kind.PURGED}


def _last_change(folder: Path) -> float:
    """When something in a folder was last changed."""
    return max(os.lstat(path).st_mtime for path in (folder, *folder.rglob("*")))


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
