"""Holds: outputs that a person keeps, with everything upstream of them, whatever is made later."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.environment import user
from ecg_pipeline.provenance.lease import hold
from ecg_pipeline.provenance.record import Record, Upstream
from ecg_pipeline.storage.files import read_json, write_json


@dataclass(frozen=True)
class Hold:
    """A held output: the digest of its record, which output that is, and who holds it since when."""

    record: str
    asset: str
    partition: str | None
    build: str
    user: str
    since: str


@dataclass(frozen=True)
class Holds:
    """The holds of a home, in `provenance/holds.json` by the digest of the record."""

    archive: Archive

    @property
    def path(self) -> Path:
        """The file, which is created by the first hold."""
        return self.archive.home / "provenance" / "holds.json"

    def all(self) -> list[Hold]:
        """Every hold, the oldest first."""
        stored = self._read()
        return [Hold(record, **facts) for record, facts in stored.items()]

    def records(self) -> list[Record]:
        """The records of the held outputs that are still there."""
        held = (Upstream(one.asset, one.partition, "", one.record) for one in self.all())
        return [record for record in map(self.archive.upstream_record, held) if record]

    def add(self, record: Record) -> bool:
        """Hold an output; return whether it was not held yet."""
        assert record.digest  # a stored record has one
        held = Hold(
            record.digest,
            record.asset,
            record.partition,
            record.build,
            user(),
            datetime.now(UTC).isoformat(timespec="seconds"),
        )
        facts = asdict(held)
        del facts["record"]
        with hold(self.path.parent):
            stored = self._read()
            if record.digest in stored:
                return False
            write_json(self.path, {**stored, record.digest: facts})
        return True

    def release(self, record: Record) -> bool:
        """End the hold of an output; return whether it was held."""
        with hold(self.path.parent):
            stored = self._read()
            if stored.pop(record.digest or "", None) is None:
                return False
            write_json(self.path, stored)
        return True

    def _read(self) -> dict[str, Any]:
        return read_json(self.path) if self.path.exists() else {}
