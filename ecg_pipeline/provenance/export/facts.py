"""The facts that exports state about an output: one table, by its records and the files of its home alone.

No fact names a patient, an ECG or a file of a hospital: of tables of patients there are counts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl

from ecg_pipeline.models.start import is_model, start_words
from ecg_pipeline.provenance.archive import UNPARTITIONED, Archive
from ecg_pipeline.provenance.lineage import Lineage, downstream, output_name
from ecg_pipeline.provenance.record import CheckOutcome, Record, Upstream
from ecg_pipeline.storage.files import read_json, sha256_file

PATIENT_TABLE = {"ecg_id", "site", "patient"}
"""The columns by which a table is one of patients' ECGs."""

SHARDED = ("tables/", "views/")
"""Folders whose tables repeat rows of an output's own tables."""

SIZES = ("ecgs", "patients", "positives")
"""What an evaluation says of its test set."""


class AlteredFilesError(ValueError):
    """A file of an output is not that of its record: no fact is stated from it."""


@dataclass(frozen=True)
class FileFact:
    """A file of an output: its path in the output, and its content. size_bytes: null in records of version 1."""

    path: str
    sha256: str
    size_bytes: int | None


@dataclass(frozen=True)
class InputFact:
    """An output, or files of a hospital, that an output was made of. record: digest of its record; null for files."""

    name: str
    asset: str
    partition: str | None
    data_version: str
    record: str | None

    @property
    def uri(self) -> str:
        """What names the input in every format."""
        if self.record:
            return record_uri(self.record)
        place = quote(f"{self.asset}/{self.partition or UNPARTITIONED}/{self.data_version}")
        return f"urn:ecg-pipeline:files:{place}"


@dataclass(frozen=True)
class CountFact:
    """ECGs and their patients in a table. split, label: null where the table has no such column."""

    output: str
    table: str
    site: str
    split: str | None
    label: int | None
    ecgs: int
    patients: int


@dataclass(frozen=True)
class RejectFact:
    """Files of a site that were read and not used."""

    site: str
    reason: str
    files: int


@dataclass(frozen=True)
class MetricFact:
    """A figure of an evaluation at one site, with its 95 % interval where it has one, and of how many it is."""

    evaluation: str
    site: str | None
    name: str
    value: float
    low: float | None
    high: float | None
    ecgs: int
    patients: int
    positives: int


@dataclass(frozen=True)
class OutputFact:
    """One output. packages: of its environment, or those in its record where that is gone.

    settings: what of the study it depends on. model: the network's settings; start: what `start_words` says of its
    weights; both empty if it is no model.
    """

    name: str
    asset: str
    partition: str | None
    build: str
    data_version: str
    record: str
    inputs: tuple[InputFact, ...]
    files: tuple[FileFact, ...]
    settings: dict[str, Any]
    model: dict[str, Any]
    start: dict[str, str]
    seeds: dict[str, int]
    checks: tuple[CheckOutcome, ...]
    git_commit: str | None
    git_dirty: bool | None
    version: str
    python: str
    packages: dict[str, str]
    lock_sha256: str | None
    hardware: dict[str, Any]
    user: str | None
    dagster_run_id: str | None
    mlflow_run_id: str | None
    started_at: str
    ended_at: str
    seconds: float
    peak_memory_bytes: int | None

    @property
    def uri(self) -> str:
        """What names the output in every format."""
        return record_uri(self.record)

    @property
    def size_bytes(self) -> int:
        """Size of the output's files."""
        return sum(file.size_bytes or 0 for file in self.files)


@dataclass(frozen=True)
class SiteFact:
    """A site of the study. patients: `synthetic`, `public` or `private`."""

    name: str
    title: str
    role: str
    patients: str


@dataclass(frozen=True)
class StudyFact:
    """The study. text: digest of its file's content; title, sites and task are empty where that is gone."""

    name: str
    title: str
    fingerprint: str
    text: str | None
    sites: tuple[SiteFact, ...]
    task: str

    @property
    def is_synthetic(self) -> bool:
        """Whether every patient is synthetic."""
        return bool(self.sites) and all(site.patients == "synthetic" for site in self.sites)


@dataclass(frozen=True)
class Facts:
    """All that exports state.

    upstream: what the output was made of, upstream before downstream. evaluations: the newest ones that read it.
    missing: inputs whose record is gone. counts: of the tables of all of these outputs.
    """

    study: StudyFact
    output: OutputFact
    upstream: tuple[OutputFact, ...]
    evaluations: tuple[OutputFact, ...]
    sources: tuple[InputFact, ...]
    missing: tuple[InputFact, ...]
    counts: tuple[CountFact, ...]
    rejects: tuple[RejectFact, ...]
    metrics: tuple[MetricFact, ...]

    @property
    def outputs(self) -> tuple[OutputFact, ...]:
        """The output and all it was made of, upstream before downstream."""
        return (*self.upstream, self.output)

    @property
    def described(self) -> tuple[OutputFact, ...]:
        """`outputs`, and the evaluations, each once."""
        return tuple({output.record: output for output in (*self.outputs, *self.evaluations)}.values())

    @property
    def named(self) -> tuple[InputFact, ...]:
        """Inputs that are not among `described`: sources, those whose record is gone, what evaluations read besides."""
        known = {output.uri for output in self.described}
        return tuple({of.uri: of for one in self.described for of in one.inputs if of.uri not in known}.values())

    def data_of(self, output: OutputFact) -> tuple[OutputFact, ...]:
        """The outputs, upstream of one of `outputs` or itself, whose tables hold ECGs of patients. Models are none."""
        reached, counted = {output.uri}, {count.output for count in self.counts}
        for one in reversed(self.outputs):
            if one.uri in reached:
                reached |= {entry.uri for entry in one.inputs}
        return tuple(of for of in self.outputs if of.uri in reached and of.name in counted and not of.model)


def facts_of(archive: Archive, made_of: Lineage) -> Facts:
    """The facts about the output of a lineage."""
    evaluations = _evaluations(archive, made_of.output)
    records = (*made_of.records, *(record for record in evaluations if record.digest != made_of.output.digest))
    study = _study(archive, made_of.output)
    sites = tuple(site.name for site in study.sites)
    outputs = {record.digest: _output(archive, record) for record in records}
    return Facts(
        study=study,
        output=outputs[made_of.output.digest],
        upstream=tuple(outputs[record.digest] for record in made_of.records[:-1]),
        evaluations=tuple(outputs[record.digest] for record in evaluations),
        sources=tuple(_input(archive, entry) for entry in made_of.sources),
        missing=tuple(_input(archive, entry) for entry in made_of.missing),
        counts=tuple(count for record in records for count in _counts(archive, record)),
        rejects=tuple(reject for record in made_of.records for reject in _rejects(archive, record)),
        metrics=tuple(metric for record in evaluations for metric in _metrics(archive, record, sites)),
    )


def record_uri(digest: str) -> str:
    """The name of an output by the digest of its record, which covers all it was made of."""
    return f"urn:ecg-pipeline:record:{digest}"


def package_url(name: str, version: str) -> str:
    """The name of a Python package in bills of materials."""
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"


def dimensions(partition: str | None, sites: tuple[str, ...]) -> dict[str, str]:
    """What a partition is of: a site, a fraction of the training patients, or both."""
    parts = partition.split("|") if partition else []
    return {"fraction" if part not in sites and _is_number(part) else "site": part for part in parts}


def site_names(facts: Facts) -> tuple[str, ...]:
    """The names of the study's sites."""
    return tuple(site.name for site in facts.study.sites)


def zulu(time: str) -> str:
    """A time of a record as RFC 3339 with Z, which every format reads."""
    return time.replace("+00:00", "Z")


def _output(archive: Archive, record: Record) -> OutputFact:
    environment = _document(archive, record.environment)
    config = _json(archive, record, "config.json")
    return OutputFact(
        name=output_name(record),
        asset=record.asset,
        partition=record.partition,
        build=record.build,
        data_version=record.data_version,
        record=record.digest or "",
        inputs=tuple(_input(archive, entry) for entry in record.upstream),
        files=tuple(FileFact(path, digest, record.sizes.get(path)) for path, digest in sorted(record.files.items())),
        settings=record.identity,
        model=config.get("model") or record.identity.get("model", {}),
        start=start_words(config) if is_model(config) else {},
        seeds=record.seeds,
        checks=record.checks,
        git_commit=record.git_commit,
        git_dirty=record.git_dirty,
        version=record.packages.get("ecg-pipeline", "unknown"),
        python=environment.get("python") or record.packages.get("python", ""),
        packages=environment.get("packages")
        or {name: version for name, version in record.packages.items() if name != "python"},
        lock_sha256=environment.get("lock_sha256"),
        hardware=record.hardware,
        user=record.user,
        dagster_run_id=record.dagster_run_id,
        mlflow_run_id=record.mlflow_run_id,
        started_at=record.started_at,
        ended_at=record.ended_at,
        seconds=record.seconds,
        peak_memory_bytes=record.peak_memory_bytes,
    )


def _input(archive: Archive, entry: Upstream) -> InputFact:
    """An input; in records of version 1, which do not name records, with that of its data version."""
    record = None if entry.record else archive.upstream_record(entry)
    digest = record.digest if record else entry.record
    return InputFact(output_name(entry), entry.asset, entry.partition, entry.data_version, digest)


def _study(archive: Archive, record: Record) -> StudyFact:
    text = _document(archive, record.study_text)
    sites = text.get("sites", {})
    task = text.get("tasks", {}).get(record.asset.split("/")[0], {})
    return StudyFact(
        name=text.get("name", ""),
        title=text.get("title", ""),
        fingerprint=record.study,
        text=record.study_text,
        sites=tuple(
            SiteFact(name, site.get("title", name), site.get("role", "internal"), site.get("patients", "private"))
            for name, site in sites.items()
        ),
        task=task.get("title", ""),
    )


def _evaluations(archive: Archive, record: Record) -> tuple[Record, ...]:
    """The newest evaluation of each partition that read an output, or the output itself if it is an evaluation."""
    read_by = [record, *downstream(archive, record)]
    newest = {(one.asset, one.partition): one for one in sorted(read_by, key=lambda one: one.ended_at)}
    return tuple(newest[place] for place in sorted(newest, key=str) if "metrics.json" in newest[place].files)


def _counts(archive: Archive, record: Record) -> Iterator[CountFact]:
    for path in record.files:
        table = archive.folder(record) / path
        if not path.endswith(".parquet") or path.startswith(SHARDED) or not table.exists():
            continue
        rows = pl.scan_parquet(table)
        columns = set(rows.collect_schema().names())
        if not columns >= PATIENT_TABLE or not _recorded(archive, record, path):
            continue
        keys = ["site", *(name for name in ("split", "label") if name in columns)]
        counted = rows.group_by(keys).agg(
            ecgs=pl.col("ecg_id").n_unique(), patients=pl.col("patient").drop_nulls().n_unique()
        )
        for row in counted.sort(keys).collect(engine="streaming").iter_rows(named=True):
            place = {"split": None, "label": None, **row}
            yield CountFact(output=output_name(record), table=path, **place)


def _rejects(archive: Archive, record: Record) -> Iterator[RejectFact]:
    if path := _recorded(archive, record, "rejects.parquet"):
        counted = pl.scan_parquet(path).group_by("site", "reason").agg(files=pl.len()).sort("site", "reason")
        yield from (RejectFact(**row) for row in counted.collect().iter_rows(named=True))


def _metrics(archive: Archive, record: Record, sites: tuple[str, ...]) -> Iterator[MetricFact]:
    site = dimensions(record.partition, sites).get("site")
    content = _json(archive, record, "metrics.json")
    sizes = {name: content.get(name, 0) for name in SIZES}
    for name, stated in content.items():
        figure = stated if isinstance(stated, Mapping) else {"value": stated}
        value = figure.get("value")
        if name not in (*SIZES, "draws") and isinstance(value, int | float):
            yield MetricFact(output_name(record), site, name, value, figure.get("low"), figure.get("high"), **sizes)


def _json(archive: Archive, record: Record, path: str) -> dict[str, Any]:
    """The content of a JSON file of an output; empty if it has none, or if the file is gone."""
    found = _recorded(archive, record, path)
    return read_json(found) if found else {}


def _recorded(archive: Archive, record: Record, path: str) -> Path | None:
    """A file of an output; None if the file is gone. One that is not as its record says is an AlteredFilesError."""
    file = archive.folder(record) / path
    if path not in record.files or not file.exists():
        return None
    return _as_stated(file, record.files[path])


def _document(archive: Archive, digest: str | None) -> dict[str, Any]:
    """A document that records share; empty if there is none, as for records of version 1, or if it is gone."""
    file = archive.documents.path(digest) if digest else None
    return read_json(_as_stated(file, digest or "")) if file and file.exists() else {}


def _as_stated(file: Path, digest: str) -> Path:
    if sha256_file(file) != digest:
        raise AlteredFilesError(f"{file} is not as its record says: nothing is exported; run `ecg-pipeline verify`")
    return file


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
