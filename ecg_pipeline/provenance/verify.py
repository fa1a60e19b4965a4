"""Verification: whether outputs, records and ledger are still what they were when they were made.

Every digest is computed again. A quick verification looks at sizes instead of contents of outputs; records, documents
and the ledger are read in both. docs/audit.md says what this cannot prove.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from stat import S_ISLNK

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.ledger import Entry, Head, Kind
from ecg_pipeline.provenance.lineage import output_name, place_name
from ecg_pipeline.provenance.record import (
    Record,
    Upstream,
    content_version,
    read_record,
    seeds_in,
)
from ecg_pipeline.storage.files import digest_json, sha256_bytes
from ecg_pipeline.storage.shards import INPUT_DIGESTS

NOT_OUTPUTS = ("record.json", "records")
"""What lies beside the builds in the folder of a partition, apart from hidden files."""


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was recorded. file: path below the home. output: whose it is; may be empty."""

    file: str
    output: str
    what: str


@dataclass
class Verification:
    """What a verification looked at and found. notes: what is unusual but explained, such as a purged build."""

    records: int = 0
    files: int = 0
    bytes: int = 0
    entries: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scope:
    """What to verify. records: of the outputs; None means every output of the home, and what lies beside them.

    checkpoint: head of the ledger as a signed checkpoint states it.
    """

    records: tuple[Record, ...] | None = None
    quick: bool = False
    checkpoint: Head | None = None


def verify(
    archive: Archive, scope: Scope, *, hasher: Hasher, workers: int = 1, progress: Progress = no_progress
) -> Verification:
    """Verify outputs of a home with their records, documents and the ledger.

    Memory is that of one record with its list of files, and of all records without theirs.

    hasher: keeps digests of an interrupted verification, so that the next one goes on. progress: by files.
    """
    found = Verification()
    ledger = _LedgerFacts(archive)
    _verify_ledger(archive, ledger, scope, found)
    every = [_stated(path) for path in archive.all_record_files()]
    wanted = None if scope.records is None else {record.digest for record in scope.records}
    chosen = [stated for stated in every if wanted is None or stated.digest in wanted]
    known = {(stated.path.parent.parent, stated.digest): stated.record for stated in every if stated.record}
    total, done = sum(stated.files for stated in chosen), 0
    with ThreadPoolExecutor(workers) as pool:
        for stated in chosen:
            record = _read(archive, stated.path, found)
            if record is None:
                continue
            found.records += 1
            _verify_record(archive, record, stated.path, ledger, known, found)
            for at in _verify_files(archive, record, ledger, found, hasher=None if scope.quick else hasher, pool=pool):
                progress(done + at, total)
            done += len(record.files)
    if wanted is None:
        _verify_places(archive, every, ledger, found)
    _verify_documents(archive, [stated.record for stated in chosen if stated.record], found, is_whole=wanted is None)
    return found


@dataclass(frozen=True)
class _Stated:
    """The file of a record. digest: of the file. record: without its list of files; None if the file is no record.
    files: how many it lists."""

    path: Path
    digest: str
    record: Record | None
    files: int


_Known = Mapping[tuple[Path, str], Record]
"""Records without their lists of files, by folder of the output and digest."""


def _stated(path: Path) -> _Stated:
    try:
        record = read_record(path)
    except (ValueError, TypeError, KeyError):
        return _Stated(path, sha256_bytes(path.read_bytes()), None, 0)
    return _Stated(path, record.digest or "", replace(record, files={}, sizes={}), len(record.files))


class _LedgerFacts:
    """What the ledger states, by record and by output."""

    def __init__(self, archive: Archive):
        self.made: dict[str, Entry] = {}
        self.newest: dict[tuple[str, str | None], str] = {}
        self.checks: dict[str, list[dict]] = {}
        self.purged: dict[tuple[str, str | None, str], Entry] = {}
        self.entries = 0
        checked: dict[tuple[str, str | None], list[dict]] = {}
        for entry in archive.ledger.readable_entries():
            self.entries += 1
            facts = entry.facts
            place = facts.get("asset", ""), facts.get("partition")
            if entry.kind == Kind.CHECKED:
                checked[place] = facts["checks"]
            elif entry.kind == Kind.MADE:
                self.made[facts["record"]] = entry
                self.newest[place] = facts["record"]
                self.checks[facts["record"]] = checked.pop(place, [])
            elif entry.kind == Kind.PURGED:
                self.purged[(*place, facts["build"])] = entry

    def is_purged(self, record: Record) -> bool:
        """Whether the build of a record was purged."""
        return (record.asset, record.partition, record.build) in self.purged


def _verify_ledger(archive: Archive, ledger: _LedgerFacts, scope: Scope, found: Verification) -> None:
    path = _below(archive, archive.ledger.path)
    found.entries = ledger.entries
    found.findings += [Finding(path, "", problem) for problem in archive.ledger.problems()]
    if scope.checkpoint is None:
        return
    entries, digest = scope.checkpoint.entries, scope.checkpoint.digest
    if ledger.entries < entries:
        what = f"the ledger has {ledger.entries} entries, and the checkpoint states {entries}: entries were taken out"
        found.findings.append(Finding(path, "", what))
    elif archive.ledger.digest_at(entries) != digest:
        what = f"the first {entries} entries of the ledger are not those that the checkpoint states"
        found.findings.append(Finding(path, "", what))


def _read(archive: Archive, path: Path, found: Verification) -> Record | None:
    if path.is_symlink():
        found.findings.append(Finding(_below(archive, path), "", "is a link, and records are files"))
        return None
    try:
        return read_record(path)
    except (ValueError, TypeError, KeyError) as error:
        found.findings.append(Finding(_below(archive, path), "", f"is not a record: {type(error).__name__}"))
        return None


def _verify_record(
    archive: Archive, record: Record, path: Path, ledger: _LedgerFacts, known: _Known, found: Verification
) -> None:
    """The record's own digests, what it names upstream, and what the ledger states of it."""
    name, file = output_name(record), _below(archive, path)

    def report(what: str) -> None:
        found.findings.append(Finding(file, name, what))

    if archive.place(record.asset, record.partition) != path.parent.parent:
        report(f"is the record of {name}, and lies in the folder of another output")
    if content_version(record.files) != record.data_version:
        report("its data version is not the digest of its files")
    if digest_json(record.identity) != record.code_version:
        report("its code version is not the digest of its settings")
    if not record.is_of(record.code_version, record.upstream):
        report("its build is not the digest of its code version and upstream versions: an upstream entry was changed")
    if seeds_in(record.identity) != record.seeds:
        report("its seeds are not those of its settings")
    if record.started_at > record.ended_at or not path.name.startswith(_stamp(record)):
        report("its times do not agree with each other or with its file's name")
    if record.version > 1:
        _verify_entry(record, ledger, report)
    for entry in record.upstream:
        of = output_name(entry)
        try:
            upstream = _upstream_record(archive, entry, known)
        except (ValueError, TypeError, KeyError):
            report(f"names a record of {of} that cannot be read")
            continue
        if upstream is None and (entry.record or archive.record_files(entry.asset, entry.partition)):
            report(f"names a record of {of} that is not there")
        elif upstream is not None and not upstream.data_version.startswith(entry.data_version):
            report(f"names a record of {of} with another data version")


def _upstream_record(archive: Archive, entry: Upstream, known: _Known) -> Record | None:
    """As `Archive.upstream_record`; a record that is named by its digest is not read again."""
    if entry.record is None:
        return archive.upstream_record(entry)
    return known.get((archive.place(entry.asset, entry.partition), entry.record))


def _verify_entry(record: Record, ledger: _LedgerFacts, report: Callable[[str], None]) -> None:
    """What the ledger states of a record."""
    entry = ledger.made.get(record.digest or "")
    if entry is None:
        report("the ledger has no entry of this record: it was changed or put in, or its making was interrupted")
        return
    stated = {key: entry.facts[key] for key in ("asset", "partition", "build", "data_version")}
    if stated != {key: getattr(record, key) for key in stated}:
        report(f"entry {entry.number} of the ledger states another output, build or data version")
    checks = [{"name": check.name, "passed": check.passed, "warns": check.warns} for check in record.checks]
    if checks != ledger.checks[record.digest or ""]:
        report("its checks ended otherwise than the ledger states")


def _verify_files(
    archive: Archive,
    record: Record,
    ledger: _LedgerFacts,
    found: Verification,
    *,
    hasher: Hasher | None,
    pool: ThreadPoolExecutor,
) -> Iterator[int]:
    """The files of a record's build. Yields how many are done. hasher: None if contents are not looked at."""
    folder, name = archive.folder(record), output_name(record)
    if not folder.is_dir() or folder.is_symlink():
        if ledger.is_purged(record):
            found.notes.append(f"{name}: build {folder.name} was purged")
        else:
            missing = "is missing, and the ledger does not say that it was purged"
            what = "is a link to elsewhere" if folder.is_symlink() else missing
            found.findings.append(Finding(_below(archive, folder), name, what))
        return
    present = dict(_listed(folder))

    def look(file: str) -> str | None:
        state = present.get(file)
        if state is None:
            is_linked = any(_is_link(present.get(parent.as_posix())) for parent in PurePosixPath(file).parents)
            return "is a link to elsewhere" if is_linked else "is missing"
        if _is_link(state):
            return "is a link to elsewhere"
        if record.sizes.get(file, state.st_size) != state.st_size:
            return f"has {state.st_size:,} bytes, and the record states {record.sizes[file]:,}"
        if hasher and hasher.digest(folder / file, state) != record.files[file]:
            return "has another content than the record states"
        return None

    files = sorted(record.files)
    for done, (file, what) in enumerate(zip(files, (pool.map if hasher else map)(look, files), strict=True), start=1):
        found.files, found.bytes = found.files + 1, found.bytes + (present[file].st_size if file in present else 0)
        if what:
            found.findings.append(Finding(_below(archive, folder / file), name, what))
        yield done
    for file in sorted(present.keys() - record.files.keys()):
        what = "is a link, and no part of the output" if _is_link(present[file]) else "is not in the record"
        found.findings.append(Finding(_below(archive, folder / file), name, what))


def _listed(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """The files and links in a build's folder, by their paths in it; digests of shards' inputs are no output."""
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(f"{folder}/{below}") as entries:  # a Path a folder would take as long as listing it
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield below + entry.name, entry.stat(follow_symlinks=False)
                elif entry.name != INPUT_DIGESTS:
                    waiting.append(f"{below}{entry.name}/")


def _is_link(state: os.stat_result | None) -> bool:
    """Whether a path is a symbolic link, by its `lstat`; None if there is no such path."""
    return state is not None and S_ISLNK(state.st_mode)


def _verify_places(archive: Archive, every: Sequence[_Stated], ledger: _LedgerFacts, found: Verification) -> None:
    """What lies beside the builds, and that the newest record is the one that the ledger states last."""
    for place, digest in ledger.newest.items():
        folder = archive.place(*place)
        name = place_name(*place)
        newest = folder / "record.json"
        file = _below(archive, newest)
        if not newest.is_file():
            found.findings.append(Finding(file, name, "is missing"))
        elif (current := sha256_bytes(newest.read_bytes())) != digest:
            what = "is not the newest record" if current in ledger.made else "was changed"
            found.findings.append(Finding(file, name, f"{what}: the ledger states {digest[:16]} last"))
    present = {stated.digest for stated in every}
    for digest, entry in ledger.made.items():
        if digest not in present:
            place = archive.place(entry.facts["asset"], entry.facts["partition"])
            what = f"record {digest[:16]}, entry {entry.number} of the ledger, is not there: changed or taken out"
            found.findings.append(Finding(_below(archive, place / "records"), entry.facts["asset"], what))
    builds: dict[Path, set[str]] = {place: set() for place in archive.places()}
    for stated in every:
        if stated.record and stated.path.parent.parent in builds:
            builds[stated.path.parent.parent].add(archive.folder(stated.record).name)
    for place in sorted(builds):
        found.findings += _beside(archive, place, builds[place], found.notes)


def _beside(archive: Archive, place: Path, builds: set[str], notes: list[str]) -> Iterator[Finding]:
    """Files in a partition's folder that belong to no record. builds: names of the folders of its builds."""
    for path in sorted(place.iterdir()):
        if path.name in NOT_OUTPUTS or path.name.startswith(".") or path.name in builds:
            continue
        if path.is_dir() and not path.is_symlink():
            is_asset = any(path.rglob("record.json"))
            if not is_asset:
                notes.append(f"{_below(archive, path)} has no record: a making that was interrupted")
        else:
            yield Finding(_below(archive, path), "", "belongs to no record")


def _verify_documents(archive: Archive, records: Iterable[Record], found: Verification, *, is_whole: bool) -> None:
    """The texts that records share: each has the content that its name states, and none is missing.

    is_whole: whether these are all records, so that what they do not name is named by none.
    """
    documents = archive.documents
    named: dict[str, str] = {}
    for record in records:
        for digest in (record.study_text, record.environment, record.shown):
            if digest:
                named.setdefault(digest, output_name(record))
    for digest, name in named.items():
        path = documents.path(digest)
        if not path.is_file() or path.is_symlink():
            found.findings.append(Finding(_below(archive, path), name, "is missing"))
        elif sha256_bytes(path.read_bytes()) != digest:
            found.findings.append(Finding(_below(archive, path), name, "has another content than its name states"))
    if is_whole and documents.folder.is_dir():
        extra = sorted(path for path in documents.folder.iterdir() if path.stem not in named)
        found.notes += [f"{_below(archive, path)} is named by no record" for path in extra if path.suffix == ".json"]


def _stamp(record: Record) -> str:
    return record.ended_at.replace(":", "").replace("+0000", "Z")


def _below(archive: Archive, path: Path) -> str:
    return path.relative_to(archive.home).as_posix()
