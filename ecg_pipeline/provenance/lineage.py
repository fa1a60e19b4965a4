"""Where an output comes from: the record that a person names, and the records of everything upstream of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Record, Upstream, read_record
from ecg_pipeline.storage.files import sha256_file

MIN_DIGITS = 8
"""Fewest digits of a digest by which an output can be named."""


class NotFound(LookupError):  # noqa: N818
    """No output, or more than one, has the name that was given. The message says what there is."""


@dataclass(frozen=True)
class Lineage:
    """The records of an output and of everything upstream of it.

    records: each once, upstream before downstream, the output's own last. sources: entries of source assets, which have
    no record, such as the files of a hospital. missing: entries whose record is gone.
    """

    records: tuple[Record, ...]
    sources: tuple[Upstream, ...]
    missing: tuple[Upstream, ...]

    @property
    def output(self) -> Record:
        """The record of the output itself."""
        return self.records[-1]

    def record_of(self, entry: Upstream) -> Record | None:
        """The record of an upstream entry of one of the records; None for a source, and if it is missing."""
        return next((record for record in self.records if _is_of(entry, record)), None)


def lineage(archive: Archive, output: Record) -> Lineage:
    """Read the records upstream of an output, each by the digest under which the one downstream names it."""
    found: dict[str, Record] = {}
    sources: dict[Upstream, None] = {}
    missing: dict[Upstream, None] = {}
    seen = set[tuple[Upstream, str | None]]()

    def visit(record: Record) -> None:
        for entry in record.upstream:
            if (entry, entry.record) in seen:
                continue
            seen.add((entry, entry.record))
            upstream = archive.upstream_record(entry)
            if upstream is not None and upstream.digest not in found:
                visit(upstream)
            elif upstream is None and entry.record is None and not archive.record_files(entry.asset, entry.partition):
                sources[entry] = None
            elif upstream is None:
                missing[entry] = None
        found[record.digest or ""] = record

    visit(output)
    return Lineage(tuple(found.values()), tuple(sources), tuple(missing))


def downstream(archive: Archive, output: Record, *, kind: str = "*") -> list[Record]:
    """Every record that names an output as upstream, directly. kind: last part of the keys of their assets."""
    files = (path for path in archive.all_record_files() if path.match(f"{kind}/*/records/*.json"))
    return [record for record in map(read_record, files) if any(_is_of(entry, output) for entry in record.upstream)]


def find_output(archive: Archive, name: str) -> Record:
    """The record of the output that a person names. A NotFound error says what there is instead.

    name: an asset or `asset@partition`, meaning its newest output; the first digits of a build, of a record's digest or
    of a data version; an MLflow model or run id; or a file anywhere, by its content: a checkpoint, a report's page.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return _only(_by_file(archive, path), f"the file {path}")
    if name.startswith("m-"):
        return _only((record for record in archive.all_records() if record.mlflow_model_id == name), name)
    if len(name) >= MIN_DIGITS and set(name) <= set("0123456789abcdef"):
        return _only((record for record in archive.all_records() if _has_digits(record, name)), name)
    return _by_asset(archive, name)


def output_name(of: Record | Upstream) -> str:
    """Name of an output, as `find_output` understands it."""
    return place_name(of.asset, of.partition)


def place_name(asset: str, partition: str | None) -> str:
    """Name of a partition of an asset, as `find_output` understands it."""
    return f"{asset}@{partition}" if partition else asset


def _is_of(entry: Upstream, record: Record) -> bool:
    if (entry.asset, entry.partition) != (record.asset, record.partition):
        return False
    return entry.record == record.digest if entry.record else record.data_version.startswith(entry.data_version)


def _by_file(archive: Archive, path: Path) -> Iterator[Record]:
    digest = sha256_file(path)
    yield from (record for record in archive.all_records() if digest in record.files.values())


def _has_digits(record: Record, digits: str) -> bool:
    stated = (record.build, record.digest or "", record.data_version, record.mlflow_run_id or "")
    return any(one.startswith(digits) for one in stated)


def _by_asset(archive: Archive, name: str) -> Record:
    asset, _, partition = name.partition("@")
    if record := archive.newest(asset, partition or None):
        return record
    places = sorted({(record.asset, record.partition or "") for record in archive.newest_records()})
    partitions = [of for known, of in places if known == asset and of]
    if len(partitions) == 1 and not partition:
        return archive.require(asset, partitions[0])
    if partitions:
        raise NotFound(f"{asset} has the partitions {', '.join(partitions)}: name one, such as {asset}@{partitions[0]}")
    known = ", ".join(dict.fromkeys(asset for asset, _ in places)) or "nothing"
    raise NotFound(f"there is no output {name} in {archive.home}; there is {known}")


def _only(records: Iterator[Record], name: str) -> Record:
    """The newest of some records of one output; NotFound if there are none, or those of several outputs."""
    found = sorted(records, key=lambda record: record.ended_at)
    outputs = sorted({output_name(record) for record in found})
    if not found:
        raise NotFound(f"no record knows {name}")
    if len(outputs) > 1:
        raise NotFound(f"{name} belongs to several outputs: {', '.join(outputs)}; name one of them")
    return found[-1]
