"""Where a patient, an ECG or a file was used: in every table of every build that is still stored.

No list of assets stands here: a table is searched if it has a column that names patients, ECGs, files or waveforms, so
the outputs of any family are covered. What was made from a model that saw a patient is listed as well.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from operator import or_
from pathlib import Path, PurePosixPath

import polars as pl

from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.builds import Build, stored_builds
from ecg_pipeline.provenance.lineage import place_name
from ecg_pipeline.storage.shards import TABLES

STORED, REJECTED, LABELLED = "stored", "rejected", "labelled"
TRAINED, CHOSEN, TESTED, PRETRAINED = "trained on", "chosen on", "tested on", "pretrained on"
HOLDS = "holds"

WORDS = {
    "ecgs.parquet": STORED,
    "rejects.parquet": REJECTED,
    "labels.parquet": LABELLED,
    "cohort.parquet": "in the cohort",
    "test_set.parquet": "in the test set",
    "trained_on.parquet": TRAINED,
    "validation.parquet": CHOSEN,
    "predictions.parquet": TESTED,
}
"""What it means that a table of this name has a patient; any other table `HOLDS` them."""

SEEN = (TRAINED, CHOSEN, TESTED, PRETRAINED)
"""Uses that go on in what is made of an output without its tables: weights, figures and pages."""

TRAINING_SETS = "pretrained_on"
"""Folder of the tables of what the weights beside it were pretrained on and fitted to."""

_KEPT = ("patient", "ecg_id", "split", "reason", "shard", "waveform_sha256", "source_sha256")
_NEVER = pl.lit(value=False)
_STORE = ("ecgs.parquet", "rejects.parquet")
"""Tables of a waveform store, by which one is known."""


@dataclass(frozen=True)
class Subject:
    """What to look for. patients: pseudonyms. sources: sites and file names as stored. contents: SHA-256 of files.

    shards: by site the numbers of the shards that hold these ECGs, the same in every output made from a store; empty
    for a site that has none.
    """

    patients: frozenset[str] = frozenset()
    ecg_ids: frozenset[str] = frozenset()
    sources: frozenset[tuple[str, str]] = frozenset()
    contents: frozenset[str] = frozenset()
    waveforms: frozenset[str] = frozenset()
    shards: Mapping[str, frozenset[int]] = field(default_factory=dict)

    def values(self) -> tuple[str, ...]:
        """Every pseudonym, ECG id and digest that stands for the subject."""
        return tuple(sorted({*self.patients, *self.ecg_ids, *self.contents, *self.waveforms}))


@dataclass(frozen=True)
class Use:
    """One table of one build that holds the subject.

    how: see `WORDS`. ecgs: number of ECGs, or of rows where a table has no ECG ids. splits, reasons: numbers of rows by
    split, and of rejects by reason.
    """

    asset: str
    partition: str | None
    build: str
    is_newest: bool
    record: str
    table: str
    how: str
    ecgs: int
    splits: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeFrom:
    """A build that was made from outputs that had seen the subject. of: those, as asset and build."""

    asset: str
    partition: str | None
    build: str
    is_newest: bool
    record: str
    of: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """Where a subject was used. unreadable: tables that are recorded but cannot be read, which may hold it, too."""

    subject: Subject
    uses: tuple[Use, ...]
    made_from: tuple[MadeFrom, ...]
    unreadable: tuple[str, ...]

    def builds(self) -> frozenset[tuple[str, str | None, str]]:
        """Asset, partition and build of each output that holds the subject or was made from one that saw it."""
        return frozenset((one.asset, one.partition, one.build) for one in (*self.uses, *self.made_from))

    def newest(self) -> frozenset[tuple[str, str | None]]:
        """Asset and partition of each newest output among them."""
        return frozenset((one.asset, one.partition) for one in (*self.uses, *self.made_from) if one.is_newest)


_Found = dict[str | tuple[str, frozenset[int] | None], pl.DataFrame | None]
"""What was found in tables, by their digests, and the shards that were looked at if not all were."""


def trace(archive: Archive, subject: Subject, *, by_shard: bool = True) -> Trace:
    """Find every use of a subject. Tables are streamed; memory is that of the rows that are found.

    by_shard: read indexes of arrays only where the stored waveform stores have the subject. An old index whose store
    was removed is then not looked at.
    """
    builds = list(stored_builds(archive))
    subject, found, unreadable = _completed(archive, builds, subject)
    shards_of = {build.partition: subject.shards.get(build.partition or "") if by_shard else None for build in builds}
    found |= _found_at_once(
        {
            (digest, shards_of[build.partition]): archive.folder(build.record) / table
            for build in builds
            for table, digest in build.tables.items()
            if digest not in found
        },
        subject,
    )
    uses = []
    for build in builds:
        shards = shards_of[build.partition]
        for table, digest in build.tables.items():
            key = digest, shards
            if digest not in found and key not in found:
                try:
                    found[key] = search(archive.folder(build.record) / table, subject, shards)
                except (OSError, pl.exceptions.ComputeError):
                    unreadable.add(str(archive.folder(build.record) / table))
                    continue
            rows = found[digest] if digest in found else found[key]
            if rows is not None and len(rows):
                uses.append(_use(build, table, rows))
    return Trace(subject, tuple(uses), tuple(_made_from(builds, uses)), tuple(sorted(unreadable)))


def search(path: Path | list[Path], subject: Subject, shards: Iterable[int] | None = None) -> pl.DataFrame | None:
    """The rows of a table that hold a subject, of its columns of identifiers; None if it has no such column."""
    rows = _rows_with(path, subject, shards)
    return None if rows is None else rows.collect(engine="streaming")


def _found_at_once(tables: Mapping[tuple[str, frozenset[int] | None], Path], subject: Subject) -> _Found:
    """What is found in tables, read together, which takes half the time; nothing if one of them cannot be read.

    tables: by digest, and the shards that are looked at.
    """
    try:
        rows = {key: _rows_with(path, subject, key[1]) for key, path in tables.items()}
        wanted = {key: table for key, table in rows.items() if table is not None}
        held = pl.collect_all(wanted.values(), engine="streaming")
    except (OSError, pl.exceptions.ComputeError):
        return {}
    return {**dict.fromkeys(rows), **dict(zip(wanted, held, strict=True))}


def _rows_with(path: Path | list[Path], subject: Subject, shards: Iterable[int] | None = None) -> pl.LazyFrame | None:
    """As `search`, before anything but the names of columns is read.

    path: one file, or those of several shards. shards: the only ones that need be looked at in a table with a column
    `shard`.
    """
    columns = pl.read_parquet_schema(path if isinstance(path, Path) else path[0])
    wanted = condition(columns, subject)
    if wanted is None:
        return None
    if shards is not None and "shard" in columns and "patient" not in columns:
        # Comparisons, unlike `is_in`, let whole row groups be skipped by their statistics.
        wanted = reduce(or_, (pl.col("shard") == shard for shard in sorted(shards)), _NEVER) & wanted
    kept = [name for name in _KEPT if name in columns]
    return pl.scan_parquet(path).filter(wanted).select(kept)


def condition(columns: Iterable[str], subject: Subject) -> pl.Expr | None:
    """Whether a row of a table holds the subject; None if the table has no column of identifiers.

    Waveforms, and the ECGs that duplicates repeat, count only where nothing else says whose they are.
    """
    looked_for = {
        "patient": subject.patients,
        "ecg_id": subject.ecg_ids,
        "twin": frozenset() if "patient" in columns else subject.ecg_ids,
        "source_sha256": subject.contents,
    }
    if subject.patients and "patient" in columns and "system" not in columns:
        # Whoever has an ECG in these tables stands beside it; a statement of `labels.parquet` may name an ECG alone.
        looked_for = {"patient": subject.patients}
    present = [name for name in (*looked_for, "source") if name in columns]
    if not present and "waveform_sha256" in columns:
        looked_for, present = {"waveform_sha256": subject.waveforms}, ["waveform_sha256"]
    if not present:
        return None
    given = (name for name in present if looked_for.get(name))
    tests = [_is_one_of(name, looked_for[name]) for name in given]
    if "source" in columns and "site" in columns:
        tests += [(pl.col("site") == site) & (pl.col("source") == source) for site, source in sorted(subject.sources)]
    return reduce(or_, tests, _NEVER)


def _is_one_of(column: str, values: frozenset[str]) -> pl.Expr:
    """Whether a column has one of some values."""
    # A single value is compared, which takes half the time of looking up the hash of each row.
    return pl.col(column) == next(iter(values)) if len(values) == 1 else pl.col(column).is_in(sorted(values))


def _completed(archive: Archive, builds: Sequence[Build], subject: Subject) -> tuple[Subject, _Found, set[str]]:
    """The subject with the ECGs, digests and shards that the stores have of it; what was found in their tables, and
    those that cannot be read."""
    found: _Found = {}
    unreadable = set[str]()
    ecg_ids, contents, waveforms = set(subject.ecg_ids), set(subject.contents), set(subject.waveforms)
    shards = defaultdict[str, set[int]](set)
    for build in builds:
        if not set(_STORE) <= set(build.tables):
            continue
        folder, own = archive.folder(build.record), shards[build.partition or ""]
        try:
            for table in _STORE:
                if build.tables[table] not in found:
                    found[build.tables[table]] = search(folder / table, subject)
            ecgs, rejects = (found[build.tables[table]] for table in _STORE)
            if _has_unlisted_duplicates(folder / "rejects.parquet", rejects):
                ecgs = search(sorted(folder.glob(f"{TABLES}/*/ecgs.parquet")) or folder / "ecgs.parquet", subject)
        except (OSError, pl.exceptions.ComputeError):
            unreadable.add(str(folder))
            continue
        if ecgs is not None and len(ecgs):
            ecg_ids |= set(ecgs["ecg_id"])
            contents |= set(ecgs["source_sha256"])
            waveforms |= set(ecgs["waveform_sha256"])
            own |= set(ecgs["shard"])
    completed = replace(
        subject,
        ecg_ids=frozenset(ecg_ids),
        contents=frozenset(contents),
        waveforms=frozenset(waveforms),
        shards={site: frozenset(numbers) for site, numbers in shards.items()},
    )
    return completed, found, unreadable


def _has_unlisted_duplicates(path: Path, rejects: pl.DataFrame | None) -> bool:
    """Whether ECGs of the subject may stand in the tables of shards alone: those that repeat another waveform.

    path, rejects: the table of rejects, and what was found in it. Rejects of older versions do not say whose they are.
    """
    if "patient" not in pl.read_parquet_schema(path):
        return True
    return rejects is not None and RejectReason.DUPLICATE_WAVEFORM in rejects["reason"].to_list()


def _use(build: Build, table: str, rows: pl.DataFrame) -> Use:
    path = PurePosixPath(table)
    how = WORDS.get(path.name, HOLDS)
    if TRAINING_SETS in path.parts:
        how = PRETRAINED if path.stem == "network" else f"{path.stem.replace('_', ' ')} fitted to"
    counted = rows["ecg_id"].drop_nulls().n_unique() if "ecg_id" in rows.columns else 0
    return Use(
        asset=build.record.asset,
        partition=build.partition,
        build=build.record.build,
        is_newest=build.is_newest,
        record=build.record.digest or "",
        table=table,
        how=how,
        ecgs=counted or len(rows),
        splits=_counts(rows, "split"),
        reasons=_counts(rows, "reason"),
    )


def _counts(rows: pl.DataFrame, column: str) -> dict[str, int]:
    if column not in rows.columns:
        return {}
    return dict(rows.drop_nulls(column).group_by(column).len().sort(column).iter_rows())


def _made_from(builds: Sequence[Build], uses: Sequence[Use]) -> Iterator[MadeFrom]:
    """Builds downstream of those that were trained on, fitted to or tested on the subject, directly or not."""
    reached = {
        (use.asset, use.partition, use.build) for use in uses if use.how in SEEN or use.how.endswith("fitted to")
    }
    holding = {(use.asset, use.partition, use.build) for use in uses}
    by_place = defaultdict[tuple[str, str | None], list[Build]](list)
    for build in builds:
        by_place[build.record.asset, build.partition].append(build)
    readers = defaultdict[tuple[str, str | None, str], list[Build]](list)
    for build in builds:
        for entry in build.record.upstream:
            for made in by_place[entry.asset, entry.partition]:
                of = made.record
                is_it = entry.record == of.digest if entry.record else of.data_version.startswith(entry.data_version)
                if is_it or (entry.record and of.data_version == entry.data_version):
                    readers[of.asset, of.partition, of.build].append(build)
    found: dict[tuple[str, str | None, str], tuple[Build, set[str]]] = {}
    waiting = sorted(reached, key=str)
    while waiting:
        of = waiting.pop()
        for build in readers[of]:
            place = build.record.asset, build.partition, build.record.build
            if place not in found:
                found[place] = build, set()
                if place not in reached:
                    waiting.append(place)
            found[place][1].add(place_name(of[0], of[1]))
    for (asset, partition, number), (build, of) in sorted(found.items(), key=lambda item: str(item[0])):
        if (asset, partition, number) not in holding or (asset, partition, number) not in reached:
            yield MadeFrom(asset, partition, number, build.is_newest, build.record.digest or "", tuple(sorted(of)))
