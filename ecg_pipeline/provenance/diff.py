"""What two outputs differ in: their records, the text of their studies, their patients, and where they first differ."""

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.lineage import lineage, output_name
from ecg_pipeline.provenance.record import CheckOutcome, Record, Upstream

PATIENT, SPLIT = "patient", "split"
"""Columns of the tables whose patients are counted."""

ABSENT = "(absent)"
"""Value of a field that one of the two records lacks."""


@dataclass(frozen=True)
class Change:
    """A field with two values. field: a dotted path. a, b: its values; `ABSENT` where there is none."""

    field: str
    a: Any
    b: Any


@dataclass(frozen=True)
class PatientCounts:
    """How many patients of one table, or of one split of it, are in A only, in B only, and in both."""

    output: str
    table: str
    split: str | None
    only_a: int
    only_b: int
    both: int


@dataclass(frozen=True)
class Cause:
    """An output of both lineages that differs by itself, not only through what is upstream of it."""

    output: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """Two outputs compared.

    record: changed fields by section: output, settings, seeds, upstream, files, code, packages, hardware, checks, run.
    study: unified diff of the two study files, without line ends. patients: counts of the output and of all outputs
    that are upstream of both. unread: tables that are not on disk. only_a, only_b: outputs upstream of one alone.
    causes: where the lineages first differ, upstream first.
    """

    a: Record
    b: Record
    record: Mapping[str, tuple[Change, ...]]
    study: tuple[str, ...]
    patients: tuple[PatientCounts, ...]
    unread: tuple[str, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    causes: tuple[Cause, ...]


def compare(archive: Archive, a: Record, b: Record) -> Difference:
    """Compare two outputs of one home, from their records and files."""
    upstream_a, upstream_b = _by_name(archive, a), _by_name(archive, b)
    shared = [(name, upstream_a[name], upstream_b[name]) for name in upstream_a if name in upstream_b]
    last = _both(a, b), a, b
    tables = [_Tables(name, archive.folder(one), archive.folder(other)) for name, one, other in (*shared, last)]
    return Difference(
        a,
        b,
        compare_records(archive, a, b),
        compare_studies(archive, a, b),
        tuple(chain.from_iterable(pair.counts() for pair in tables)),
        tuple(chain.from_iterable(pair.unread(a, b) for pair, (_, a, b) in zip(tables, (*shared, last), strict=True))),
        tuple(name for name in upstream_a if name not in upstream_b),
        tuple(name for name in upstream_b if name not in upstream_a),
        first_differences(archive, a, b),
    )


def compare_records(archive: Archive, a: Record, b: Record) -> dict[str, tuple[Change, ...]]:
    """The fields that differ between two records, by section; sections without a change are left out."""
    sections = {name: tuple(changes(one, _sections(archive, b)[name])) for name, one in _sections(archive, a).items()}
    return {name: found for name, found in sections.items() if found}


def compare_studies(archive: Archive, a: Record, b: Record) -> tuple[str, ...]:
    """Unified diff of the study files that two outputs were made from. Empty where they are equal, or not recorded."""
    of_a, of_b = _study_lines(archive, a), _study_lines(archive, b)
    if of_a is None or of_b is None:
        return ()
    return tuple(difflib.unified_diff(of_a, of_b, "A", "B", n=2, lineterm=""))


def changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    """The values that differ between two nested mappings, by their dotted paths."""
    flat_a, flat_b = dict(_flat(a)), dict(_flat(b))
    for field in dict.fromkeys((*flat_a, *flat_b)):
        one, other = flat_a.get(field, ABSENT), flat_b.get(field, ABSENT)
        # As the digests of identities do, this tells 1 from 1.0 and true.
        if json.dumps(one) != json.dumps(other):
            yield Change(field, one, other)


def first_differences(archive: Archive, a: Record, b: Record) -> tuple[Cause, ...]:
    """The outputs that differ by themselves: other settings or files, or other files made of the same inputs.

    Outputs are followed upstream, pair by pair, as long as their content differs.
    """
    causes: list[Cause] = []
    seen = set[tuple[str | None, str | None]]()

    def visit(one: Record, other: Record) -> None:
        if (one.digest, other.digest) in seen:
            return
        seen.add((one.digest, other.digest))
        places = {"asset": one.asset, "partition": one.partition}, {"asset": other.asset, "partition": other.partition}
        found = [*changes(*places), *changes(one.identity, other.identity)]
        reasons = [f"{change.field}: {change.a} → {change.b}" for change in found]
        entries_a, entries_b = _entries(one), _entries(other)
        for name in dict.fromkeys((*entries_a, *entries_b)):
            if name not in entries_a or name not in entries_b:
                reasons.append(f"{name} is upstream of {'A' if name in entries_a else 'B'} only")
            elif not _is_same(entries_a[name], entries_b[name]):
                of_a, of_b = archive.upstream_record(entries_a[name]), archive.upstream_record(entries_b[name])
                if of_a and of_b:
                    visit(of_a, of_b)
                else:
                    reasons.append(f"{name}: {entries_a[name].data_version} → {entries_b[name].data_version}")
        if not reasons and one.build == other.build and one.data_version != other.data_version:
            reasons.append(f"other files from the same inputs: {_conditions(archive, one, other)}")
        if reasons:
            causes.append(Cause(_both(one, other), tuple(reasons)))

    visit(a, b)
    return tuple(causes)


@dataclass(frozen=True)
class _Tables:
    """The tables of one output in two builds."""

    output: str
    a: Path
    b: Path

    def counts(self) -> Iterator[PatientCounts]:
        """Patient counts of each table that has a column of patients."""
        for table in dict.fromkeys((*_patient_tables(self.a), *_patient_tables(self.b))):
            one, other = _patients(self.a / table), _patients(self.b / table)
            for split in dict.fromkeys((*one, *other)):
                in_a, in_b = one.get(split, set[str]()), other.get(split, set[str]())
                found = len(in_a - in_b), len(in_b - in_a), len(in_a & in_b)
                yield PatientCounts(self.output, table, split, *found)

    def unread(self, a: Record, b: Record) -> Iterator[str]:
        """Names of the builds that are not on disk."""
        for folder, record in ((self.a, a), (self.b, b)):
            if record.files and not folder.is_dir():
                yield f"{output_name(record)} {record.build}"


def _sections(archive: Archive, record: Record) -> dict[str, dict[str, Any]]:
    """A record as sections of fields, in the order in which they are shown."""
    installed = archive.documents.find(record.environment) or {}
    return {
        "output": {
            "asset": record.asset,
            "partition": record.partition,
            "data_version": record.data_version,
            "build": record.build,
            "code_version": record.code_version,
            "study": record.study,
            "record": record.digest,
        },
        "settings": record.identity,
        "seeds": record.seeds,
        "upstream": {name: entry.data_version for name, entry in _entries(record).items()},
        "files": record.files,
        "code": {
            "git_commit": record.git_commit,
            "git_dirty": record.git_dirty,
            "lock_sha256": installed.get("lock_sha256"),
        },
        "packages": {**installed.get("packages", {}), **record.packages},
        "hardware": record.hardware,
        "checks": {check.name: _outcome(check) for check in record.checks},
        "run": {
            "command": " ".join(record.command),
            "user": record.user,
            "started_at": record.started_at,
            "seconds": record.seconds,
            "size_bytes": record.size_bytes,
            "peak_memory_bytes": record.peak_memory_bytes,
            "dagster_run_id": record.dagster_run_id,
            "mlflow_run_id": record.mlflow_run_id,
            "mlflow_model_id": record.mlflow_model_id,
        },
    }


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """The innermost values of nested mappings and lists by their dotted paths."""
    inner = dict(enumerate(value)) if isinstance(value, (list, tuple)) else value
    if isinstance(inner, Mapping) and inner:
        for name, one in inner.items():
            yield from _flat(one, (*path, str(name)))
    elif path:
        yield ".".join(path), value


def _conditions(archive: Archive, a: Record, b: Record) -> str:
    """What two makings of the same inputs differed in, as text."""
    found = compare_records(archive, a, b)
    differing = [
        f"{one.field} {one.a} → {one.b}" for name in ("code", "packages", "hardware") for one in found.get(name, ())
    ]
    return ", ".join(differing) or "same code, packages and hardware"


def _study_lines(archive: Archive, record: Record) -> list[str] | None:
    content = archive.documents.find(record.study_text)
    return None if content is None else yaml.safe_dump(content, sort_keys=False, allow_unicode=True).splitlines()


def _outcome(check: CheckOutcome) -> str:
    if not check.passed:
        return "warned" if check.warns else "failed"
    return "passed with a note" if check.warns else "passed"


def _by_name(archive: Archive, output: Record) -> dict[str, Record]:
    """The records upstream of an output by name; of several versions of one output the last."""
    return {output_name(record): record for record in lineage(archive, output).records[:-1]}


def _both(a: Record, b: Record) -> str:
    """Name of what is compared: of one output, or of two."""
    return " and ".join(dict.fromkeys(map(output_name, (a, b))))


def _entries(record: Record) -> dict[str, Upstream]:
    return {output_name(entry): entry for entry in record.upstream}


def _is_same(a: Upstream, b: Upstream) -> bool:
    """Whether two entries state one version; one of them may be cut to 16 digits."""
    return a.data_version.startswith(b.data_version) or b.data_version.startswith(a.data_version)


def _patient_tables(folder: Path) -> Iterable[str]:
    """Tables with a column of patients, by their paths in a build. Tables of single shards are left out."""
    for path in sorted(folder.rglob("*.parquet")):
        name = path.relative_to(folder)
        if name.parts[0] != "tables" and PATIENT in pl.read_parquet_schema(path):
            yield name.as_posix()


def _patients(path: Path) -> dict[str | None, set[str]]:
    """The patients in a table by split; under None in a table without splits. ECGs without a patient do not count."""
    if not path.is_file():
        return {}
    table = pl.scan_parquet(path)
    columns = [name for name in (PATIENT, SPLIT) if name in table.collect_schema()]
    rows = table.select(columns).drop_nulls(PATIENT).unique().collect(engine="streaming")
    if SPLIT not in columns:
        return {None: set(rows[PATIENT])}
    return {str(split): set(of[PATIENT]) for (split,), of in rows.sort(SPLIT).group_by(SPLIT, maintain_order=True)}
