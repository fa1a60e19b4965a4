"""Collects the facts about an output from its records and the files of its home, which must be as recorded."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.models.start import is_model, start_words
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.export.facts import (
    CountFact,
    Facts,
    FileFact,
    InputFact,
    MetricFact,
    OutputFact,
    RejectFact,
    SiteFact,
    StudyFact,
    dimensions,
)
from ecg_pipeline.provenance.lineage import Lineage, downstream, output_name
from ecg_pipeline.provenance.record import Record, Upstream
from ecg_pipeline.storage.files import read_json, sha256_file

PATIENT_TABLE = {"ecg_id", "site", "patient"}
"""The columns by which a table is one of patients' ECGs."""

SHARDED = ("tables/", "views/")
"""Folders whose tables repeat rows of an output's own tables."""

SIZES = ("ecgs", "patients", "positives")
"""What an evaluation says of its test set."""


class AlteredFilesError(ValueError):
    """A file of an output is not that of its record: no fact is stated from it."""


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
