"""The builds that are still stored, each with its record and its tables."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import CUT, Record, read_record
from ecg_pipeline.storage.shards import TABLES


@dataclass(frozen=True)
class Build:
    """A stored build: its newest record, without the list of its files, and its tables with their digests."""

    record: Record
    is_newest: bool
    tables: dict[str, str]

    @property
    def partition(self) -> str | None:
        """The partition of the output."""
        return self.record.partition


def stored_builds(archive: Archive) -> Iterator[Build]:
    """Every recorded build whose folder still exists."""
    for place in sorted(archive.places()):
        newest, seen = read_record(place / "record.json"), set[str]()
        for path in (None, *sorted((place / "records").glob("*.json"), reverse=True)):
            if path is not None and not any(_is_folder(place, part, seen) for part in path.stem.split("-")):
                continue
            record = newest if path is None else read_record(path)
            folder = archive.folder(record)
            if _is_folder(place, folder.name, seen):
                seen.add(folder.name)
                tables = {name: digest for name, digest in record.files.items() if _is_searched(name)}
                yield Build(replace(record, files={}, sizes={}), record.build == newest.build, tables)


def _is_folder(place: Path, name: str, seen: set[str]) -> bool:
    """Whether a part of the name of a record's file names a build that is stored and was not seen yet."""
    return len(name) == CUT and name not in seen and (place / name).is_dir()


def _is_searched(name: str) -> bool:
    """Tables of single shards are left out: what they hold stands in the tables of the whole output, too."""
    return name.endswith(".parquet") and not name.startswith(f"{TABLES}/")
