"""The audit of an output: everything that it was made of, back to files and patients, from the home's files alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ecg_pipeline.models.start import is_model, start_words
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.lineage import Lineage, downstream, lineage, output_name, place_name
from ecg_pipeline.provenance.people import People, people
from ecg_pipeline.provenance.record import Record
from ecg_pipeline.storage.files import read_json

TESTED = ("evaluation", "zero_shot")
"""Last parts of the keys of assets that score a model on test patients."""


@dataclass(frozen=True)
class Audited:
    """One record of a lineage, and the patients in its build; None if the build was purged or is missing.

    start: what `start_words` says of the weights; empty if it is no model, or if the build is gone.
    """

    record: Record
    people: tuple[People, ...] | None
    start: dict[str, str]


@dataclass(frozen=True)
class Looks:
    """How often a model was scored on test patients, as the ledger states. first, last: times."""

    output: str
    times: int
    first: str
    last: str


@dataclass(frozen=True)
class Audit:
    """Where an output comes from. audited: of every record of the lineage, in its order."""

    lineage: Lineage
    audited: tuple[Audited, ...]
    looks: tuple[Looks, ...]
    studies: dict[str, dict[str, str]]
    environments: dict[str, dict[str, Any]]
    ledger_entries: int

    @property
    def output(self) -> Record:
        """The record of the output itself."""
        return self.lineage.output

    def as_json(self) -> dict[str, Any]:
        """The audit as JSON. Files are counted: their digests stand in the records, whose digests are here."""
        return {
            "output": output_name(self.output),
            "record": self.output.digest,
            "records": [_record_json(one) for one in self.audited],
            "sources": [asdict(entry) for entry in self.lineage.sources],
            "missing": [asdict(entry) for entry in self.lineage.missing],
            "test_data": [asdict(look) for look in self.looks],
            "studies": self.studies,
            "environments": self.environments,
            "ledger_entries": self.ledger_entries,
        }


def audit(archive: Archive, output: Record) -> Audit:
    """Collect the audit of an output."""
    found = lineage(archive, output)
    known: dict[str, tuple[People, ...]] = {}
    return Audit(
        lineage=found,
        audited=tuple(_audited(archive, record, known) for record in found.records),
        looks=_looks(archive, found),
        studies={record.study: _study(archive, record) for record in found.records},
        environments=_environments(archive, found.records),
        ledger_entries=archive.ledger.head().entries,
    )


def _audited(archive: Archive, record: Record, known: dict[str, tuple[People, ...]]) -> Audited:
    folder = archive.folder(record)
    counted = tuple(people(folder, record.files, known)) if folder.is_dir() else None
    return Audited(record, counted, _start(folder, record))


def _start(folder: Path, record: Record) -> dict[str, str]:
    """What a model started from, by its config."""
    file = folder / "config.json"
    config = read_json(file) if file.name in record.files and file.exists() else {}
    return start_words(config) if is_model(config) else {}


def _looks(archive: Archive, found: Lineage) -> tuple[Looks, ...]:
    """Evaluations of the output, or, if it was made of evaluations, those; with every time that they were made."""
    upstream = [record for record in found.records if record.asset.split("/")[-1] in TESTED]
    read_by = [record for kind in TESTED for record in downstream(archive, found.output, kind=kind)]
    evaluations = {(record.asset, record.partition) for record in (*upstream, *read_by)}
    times: dict[tuple[str, str | None], list[str]] = {}
    for entry in archive.ledger.readable_entries():
        place = entry.facts.get("asset", ""), entry.facts.get("partition")
        if entry.kind == Kind.MADE and place in evaluations:
            times.setdefault(place, []).append(entry.at)
    return tuple(Looks(place_name(*place), len(at), at[0], at[-1]) for place, at in sorted(times.items(), key=str))


def _study(archive: Archive, record: Record) -> dict[str, str]:
    """Name and title of the study of a record, and the digest of its text."""
    text = archive.documents.find(record.study_text) or {"name": "unknown", "title": ""}
    return {"name": text["name"], "title": text["title"], "text": record.study_text or ""}


def _environments(archive: Archive, records: Sequence[Record]) -> dict[str, dict[str, Any]]:
    """Python, lock file and number of packages of each environment."""
    found = {}
    for digest in dict.fromkeys(record.environment for record in records if record.environment):
        if made := archive.documents.find(digest):
            found[digest] = {
                "python": made["python"],
                "lock_sha256": made["lock_sha256"],
                "packages": len(made["packages"]),
            }
    return found


def _record_json(one: Audited) -> dict[str, Any]:
    record = one.record
    content = {name: value for name, value in asdict(record).items() if name not in ("files", "sizes")}
    return {
        **content,
        "files": len(record.files),
        "bytes": record.size_bytes,
        "seconds": record.seconds,
        "start": one.start,
        "people": None if one.people is None else [asdict(counts) for counts in one.people],
    }
