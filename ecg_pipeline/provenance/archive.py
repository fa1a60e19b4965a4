"""Where outputs and their records stand.

    <root>/<asset>/<partition>/<build>/...          the files of one build
    <root>/<asset>/<partition>/record.json          the newest record: it names its build
    <root>/<asset>/<partition>/records/*.json       every record ever written here, never changed again

A build's folder is named by all that goes into it, so a killed run goes on in its own folder and never touches an
output that has a record. The record is written last: an output without one does not exist.
"""

from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.provenance.record import Record, read_record, write_record

UNPARTITIONED = "all"
"""Folder name of the only partition of an asset without partitions."""


class NotMaterialised(FileNotFoundError):  # noqa: N818
    """An output that is needed has no record."""


@dataclass(frozen=True)
class Archive:
    """The tree of outputs below one root folder."""

    root: Path

    def place(self, asset: str, partition: str | None) -> Path:
        """Folder of one asset's partition, whether or not anything is there."""
        return self.root / asset / (partition or UNPARTITIONED).replace("|", "_")

    def newest(self, asset: str, partition: str | None) -> Record | None:
        """The newest record, or None where nothing was materialised."""
        path = self.place(asset, partition) / "record.json"
        return read_record(path) if path.exists() else None

    def require(self, asset: str, partition: str | None) -> Record:
        """The newest record; NotMaterialised says what to do where there is none."""
        record = self.newest(asset, partition)
        if record is None:
            where = f" partition {partition}" if partition else ""
            raise NotMaterialised(
                f"{asset}{where} is not materialised: "
                f"run `ecg-pipeline materialize '+{asset}'`, or materialise it in the UI"
            )
        return record

    def find(self, asset: str, partition: str | None, data_version: str) -> Record | None:
        """The newest record of an output with this content, or None where there never was one."""
        record = self.newest(asset, partition)
        if record is None or record.data_version == data_version:
            return record
        kept = sorted((self.place(asset, partition) / "records").glob("*.json"), reverse=True)
        return next((old for old in map(read_record, kept) if old.data_version == data_version), None)

    def times(self, asset: str, partition: str | None) -> int:
        """How often a partition was materialised: the number of records ever written there."""
        return len(list((self.place(asset, partition) / "records").glob("*.json")))

    def folder(self, record: Record) -> Path:
        """The folder that a record describes."""
        return self.place(record.asset, record.partition) / record.build

    def keep(self, record: Record) -> None:
        """Append the record, then make it the newest. After this line the output exists."""
        place = self.place(record.asset, record.partition)
        stamp = record.ended_at.replace(":", "").replace("+0000", "Z")
        write_record(place / "records" / f"{stamp}-{record.build}.json", record)
        write_record(place / "record.json", record)
