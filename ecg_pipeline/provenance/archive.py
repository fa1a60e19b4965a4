"""The folders of outputs, their records, and the ledger of a study's home.

    <home>/assets/<asset>/<partition>/<build>/...          the files of one build
    <home>/assets/<asset>/<partition>/record.json          the newest record, which names its build
    <home>/assets/<asset>/<partition>/records/*.json       all records, append-only
    <home>/provenance/ledger.jsonl                         what was made, checked, withdrawn and purged, in order
    <home>/provenance/documents/<sha256>.json              texts that records share: studies, environments, metadata

A build's folder is named by a digest of its inputs, so a killed run resumes in its own folder and never changes an
output that has a record. The record is written last: an output without a record is not materialised.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ecg_pipeline.provenance.ledger import Kind, Ledger
from ecg_pipeline.provenance.record import CUT, CheckOutcome, Record, Upstream, read_record, record_text
from ecg_pipeline.storage.files import sha256_bytes, write_text

UNPARTITIONED = "all"
"""Folder name in place of the partition, for assets without partitions."""


class NotMaterialised(FileNotFoundError):  # noqa: N818
    """A required output has no record."""


@dataclass(frozen=True)
class Documents:
    """Texts that many records share, each once, in a file named by the text's SHA-256."""

    folder: Path

    def save(self, value: Any) -> str:
        """Store a JSON value and return its digest."""
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        digest = sha256_bytes(text.encode())
        if not self.path(digest).exists():
            write_text(self.path(digest), text)
        return digest

    def read(self, digest: str) -> Any:
        """The JSON value with this digest."""
        return json.loads(self.path(digest).read_text(encoding="utf-8"))

    def find(self, digest: str | None) -> Any:
        """The JSON value with this digest; None for no digest, and if the document is gone."""
        return self.read(digest) if digest and self.path(digest).is_file() else None

    def path(self, digest: str) -> Path:
        """File of a document, whether or not it exists."""
        return self.folder / f"{digest}.json"


@dataclass(frozen=True)
class Archive:
    """The outputs and records of one home."""

    home: Path

    @property
    def root(self) -> Path:
        """The folder of all outputs."""
        return self.home / "assets"

    @property
    def ledger(self) -> Ledger:
        """The ledger of the home."""
        return Ledger(self.home / "provenance" / "ledger.jsonl")

    @property
    def documents(self) -> Documents:
        """The documents that records name by their digests."""
        return Documents(self.home / "provenance" / "documents")

    def check_layout(self) -> None:
        """Raise a LayoutError if the outputs below the root have another layout than this version reads."""
        if (place := next(self.places(), None)) is not None:
            read_record(place / "record.json")

    def place(self, asset: str, partition: str | None) -> Path:
        """Folder of one partition of an asset, whether or not it exists."""
        return self.root / asset / (partition or UNPARTITIONED).replace("|", "_")

    def newest(self, asset: str, partition: str | None) -> Record | None:
        """The newest record; None if nothing was materialised."""
        path = self.place(asset, partition) / "record.json"
        return read_record(path) if path.exists() else None

    def require(self, asset: str, partition: str | None) -> Record:
        """The newest record. If there is none: NotMaterialised, which says what to run."""
        record = self.newest(asset, partition)
        if record is None:
            where = f" partition {partition}" if partition else ""
            raise NotMaterialised(
                f"{asset}{where} is not materialised: "
                f"run `ecg-pipeline materialize '+{asset}'`, or materialise it in the UI"
            )
        return record

    def find(self, asset: str, partition: str | None, *, data_version: str) -> Record | None:
        """The newest record with this data version, which may be cut to 16 digits; None if there is none."""
        record = self.newest(asset, partition)
        if record is None or record.data_version.startswith(data_version):
            return record
        found = (old for old in self.history(asset, partition) if old.data_version.startswith(data_version))
        return next(found, None)

    def upstream_record(self, entry: Upstream) -> Record | None:
        """The record of an upstream entry: the very record that it names, or in version 1 one of its data version.

        None for a source asset, and if the record is gone.
        """
        if entry.record is None:
            return self.find(entry.asset, entry.partition, data_version=entry.data_version)
        records = self.place(entry.asset, entry.partition) / "records"
        named = sorted(records.glob(f"*-{entry.record[:CUT]}.json"))
        return next((old for old in map(read_record, named) if old.digest == entry.record), None)

    def history(self, asset: str, partition: str | None) -> Iterator[Record]:
        """All records of a partition, the newest first."""
        return map(read_record, self.record_files(asset, partition))

    def record_files(self, asset: str, partition: str | None) -> list[Path]:
        """The files of all records of a partition, the newest first."""
        return sorted((self.place(asset, partition) / "records").glob("*.json"), reverse=True)

    def all_records(self) -> Iterator[Record]:
        """Every record below the root, one asset after the other, oldest first."""
        return map(read_record, self.all_record_files())

    def all_record_files(self) -> list[Path]:
        """The files of all records below the root, one asset after the other, oldest first."""
        return sorted(path for place in self._places() for path in place.glob("records/*.json"))

    def newest_records(self) -> Iterator[Record]:
        """The newest record of every partition of every asset."""
        return (read_record(place / "record.json") for place in sorted(self.places()))

    def places(self) -> Iterator[Path]:
        """Folder of every partition that was materialised."""
        return (place for place in self._places() if (place / "record.json").exists())

    def _places(self) -> Iterator[Path]:
        """Folder of every partition that has records. Folders of builds, which may be large, are not entered."""
        waiting = [self.root] if self.root.is_dir() else []
        while waiting:
            folder = waiting.pop()
            if (folder / "records").is_dir() or (folder / "record.json").exists():
                yield folder
                continue
            with os.scandir(folder) as entries:
                waiting += [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]

    def times(self, asset: str, partition: str | None) -> int:
        """Number of times that a partition was materialised."""
        return len(self.record_files(asset, partition))

    def folder(self, record: Record) -> Path:
        """Folder of the build that a record describes."""
        return self.build_folder(record.asset, record.partition, record.build)

    def build_folder(self, asset: str, partition: str | None, build: str) -> Path:
        """Folder of a build, whether or not it exists."""
        return self.place(asset, partition) / build[:CUT]

    def save(self, record: Record) -> Record:
        """Append a record, enter it in the ledger, and make it the newest. This completes the materialisation.

        Returns the record with its digest.
        """
        place, text = self.place(record.asset, record.partition), record_text(record)
        digest = sha256_bytes(text.encode())
        write_text(place / "records" / _file_name(record, digest), text)
        self.ledger.append(*_checked(record.asset, record.partition, record.checks), _made(record, digest))
        write_text(place / "record.json", text)
        return replace(record, digest=digest)

    def note_failed_checks(self, asset: str, partition: str | None, checks: Iterable[CheckOutcome]) -> None:
        """Enter the checks of an output that was not stored because one of them failed."""
        self.ledger.append(*_checked(asset, partition, checks))

    def _is_whole(self, record: Record) -> bool:
        """Whether every file of a build is there, with the size that its record states."""
        folder = self.folder(record)
        files = ((folder / name, size) for name, size in record.sizes.items())
        return folder.is_dir() and all(path.is_file() and path.stat().st_size == size for path, size in files)

    def finish_interrupted_save(self, asset: str, partition: str | None) -> None:
        """Complete what a killed `save` left: a record in the ledger becomes the newest, one not there yet is deleted.

        Call it while the partition's lease is held.
        """
        newest, files = self.newest(asset, partition), self.record_files(asset, partition)
        if not files or (newest and newest.digest == read_record(files[0]).digest):
            return
        entered = [
            entry.facts["record"]
            for entry in self.ledger.entries()
            if entry.kind == Kind.MADE and (entry.facts["asset"], entry.facts["partition"]) == (asset, partition)
        ]
        if not entered:
            is_first = newest is None and read_record(files[0]).version > 1
            if is_first and self.ledger.path.exists():
                files[0].unlink()
        elif newest is None or newest.digest != entered[-1]:
            last = next((path for path in files if read_record(path).digest == entered[-1]), None)
            # A build that somebody deleted is made again, and may be there in part by now.
            if last is not None and self._is_whole(read_record(last)):
                write_text(self.place(asset, partition) / "record.json", last.read_text(encoding="utf-8"))
        elif read_record(files[0]).digest not in entered:
            files[0].unlink()


def _file_name(record: Record, digest: str) -> str:
    stamp = record.ended_at.replace(":", "").replace("+0000", "Z")
    return f"{stamp}-{record.build[:CUT]}-{digest[:CUT]}.json"


def _made(record: Record, digest: str) -> tuple[Kind, dict[str, Any]]:
    facts = {"asset": record.asset, "partition": record.partition, "record": digest}
    return Kind.MADE, {**facts, "build": record.build, "data_version": record.data_version}


def _checked(asset: str, partition: str | None, checks: Iterable[CheckOutcome]) -> list[tuple[Kind, dict[str, Any]]]:
    outcomes = [asdict(check) for check in checks]
    return [(Kind.CHECKED, {"asset": asset, "partition": partition, "checks": outcomes})] if outcomes else []
