"""The folders of outputs and their records.

    <root>/<asset>/<partition>/<build>/...          the files of one build
    <root>/<asset>/<partition>/record.json          the newest record, which names its build
    <root>/<asset>/<partition>/records/*.json       all records, append-only

A build's folder is named by a digest of its inputs, so a killed run resumes in its own folder and never changes an
output that has a record. The record is written last: an output without a record is not materialised.
"""

from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.provenance.record import Record, read_record, write_record

UNPARTITIONED = "all"
"""Folder name in place of the partition, for assets without partitions."""


class NotMaterialised(FileNotFoundError):  # noqa: N818
    """A required output has no record."""


@dataclass(frozen=True)
class Archive:
    """The tree of outputs below one root folder."""

    root: Path

    def check_layout(self) -> None:
        """Raise a LayoutError if the outputs below the root have another layout than this version reads."""
        if (path := next(self.root.rglob("record.json"), None)) is not None:
            read_record(path)

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
        """The newest record with this data version; None if there is none."""
        record = self.newest(asset, partition)
        if record is None or record.data_version == data_version:
            return record
        paths = sorted((self.place(asset, partition) / "records").glob("*.json"), reverse=True)
        return next((old for old in map(read_record, paths) if old.data_version == data_version), None)

    def times(self, asset: str, partition: str | None) -> int:
        """Number of times that a partition was materialised."""
        return len(list((self.place(asset, partition) / "records").glob("*.json")))

    def folder(self, record: Record) -> Path:
        """Folder of the build that a record describes."""
        return self.place(record.asset, record.partition) / record.build

    def save(self, record: Record) -> None:
        """Append a record and make it the newest. This completes the materialisation."""
        place = self.place(record.asset, record.partition)
        stamp = record.ended_at.replace(":", "").replace("+0000", "Z")
        write_record(place / "records" / f"{stamp}-{record.build}.json", record)
        write_record(place / "record.json", record)
