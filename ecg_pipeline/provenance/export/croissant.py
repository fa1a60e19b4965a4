"""The data an output was made of, as a Croissant data set with the properties of responsible AI (RAI).

What patients' tables hold is not published: the record sets are tables of counts, which are written beside it. Tables
of patients are named by path and digest, so that who has the home can tell whether they are the same.
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, FileFact, OutputFact, zulu
from ecg_pipeline.provenance.export.tables import COLUMNS, DESCRIPTIONS, write_tables
from ecg_pipeline.storage.files import sha256_file, write_json

METADATA = "croissant.json"
RAI = "http://mlcommons.org/croissant/RAI/1.0"

MIME_TYPES = {".parquet": "application/vnd.apache.parquet", ".json": "application/json", ".csv": "text/csv"}


def write(facts: Facts, out: Path) -> list[Path]:
    """Write `croissant.json` and its tables to the folder `out`."""
    tables = write_tables(facts, out)
    with audit_extra():
        content = metadata(facts, {name: sha256_file(path) for name, path in tables.items()}).to_json()
    content["conformsTo"] = [content["conformsTo"], RAI]
    return [write_json(out / METADATA, content), *tables.values()]


def metadata(facts: Facts, digests: dict[str, str]) -> Any:
    """The data set (`mlcroissant.Metadata`). digests: SHA-256 of the file of each table."""
    import mlcroissant as mlc

    study, output = facts.study, facts.output
    published = [
        mlc.FileObject(
            id=f"{name}.csv",
            name=f"{name}.csv",
            description=DESCRIPTIONS[name],
            content_url=f"{name}.csv",
            encoding_formats=["text/csv"],
            sha256=digest,
        )
        for name, digest in digests.items()
    ]
    kept = [_kept(of, file) for of in facts.data_of(output) for file in of.files if ".zarr/" not in file.path]
    return mlc.Metadata(
        name=f"{study.name or 'study'} data of {output.name}".replace("/", " ").replace("@", " "),
        description=_description(facts),
        url=output.uri,
        version="1.0.0",
        sd_version=output.version or None,
        date_published=datetime.fromisoformat(output.ended_at),
        license=["No licence is stated: ask the hospitals that the data are from."],
        creators=[mlc.Organization(name=site.title) for site in study.sites],
        cite_as=f"Data of {output.name} ({output.uri})",
        distribution=[*published, *(one for one in kept if one is not None)],
        record_sets=[_record_set(name) for name in digests],
        **_responsible_ai(facts),
    )


def _record_set(name: str) -> Any:
    import mlcroissant as mlc

    kinds = {pl.String: mlc.DataType.TEXT, pl.Int64: mlc.DataType.INTEGER, pl.Float64: mlc.DataType.FLOAT}
    columns = [
        mlc.Field(
            id=f"{name}/{column}",
            name=column,
            description=f"Column {column} of {name}.csv",
            data_types=[kinds[kind]],
            source=mlc.Source(file_object=f"{name}.csv", extract=mlc.Extract(column=column)),
        )
        for column, kind in COLUMNS[name].items()
    ]
    return mlc.RecordSet(id=name, name=name, description=DESCRIPTIONS[name], fields=columns)


def _kept(output: OutputFact, file: FileFact) -> Any:
    """A file that is not published, as a file object that is named by its digest. None for one of unknown kind."""
    import mlcroissant as mlc

    if (kind := MIME_TYPES.get(Path(file.path).suffix)) is None:
        return None
    return mlc.FileObject(
        id=f"{output.name}/{file.path}",
        name=f"{output.name}/{file.path}",
        description=f"Kept in the home, not published: data version {output.data_version}",
        content_url=f"urn:ecg-pipeline:file:{file.sha256}",
        content_size=f"{file.size_bytes} B" if file.size_bytes is not None else None,
        encoding_formats=[kind],
        sha256=file.sha256,
    )


def _description(facts: Facts) -> str:
    study = facts.study
    stored = [count for count in facts.counts if count.output.startswith("waveform_store")]
    size = f"{sum(count.ecgs for count in stored):,} ECGs of {len({count.site for count in stored})} sites"
    return (
        f"The data that {facts.output.name} of the study “{study.title or study.name}” was made of: {size}. "
        "Published are counts by site, split and label; tables of patients are named by their digests alone."
    )


def _responsible_ai(facts: Facts) -> dict[str, Any]:
    study = facts.study
    whose = "Synthetic patients." if study.is_synthetic else "Patients of hospitals, or of public data sets of ECGs."
    left_out = sum(reject.files for reject in facts.rejects)
    return {
        "data_collection": f"ECGs as recorded, read from {len(facts.sources)} sources of files.",
        "data_collection_type": ["Secondary Data Analysis"],
        "data_collection_missing_data": f"{left_out} files were read and not used; rejects.csv gives the reasons.",
        "data_collection_raw_data": "ECGs of "
        + "; ".join(f"{site.title} ({site.role}, {site.patients} patients)" for site in study.sites),
        "data_preprocessing_protocol": [
            f"{of.name}: {json.dumps(of.settings, sort_keys=True)}" for of in facts.upstream if not of.model
        ],
        "data_annotation_protocol": [study.task] if study.task else [],
        "data_use_cases": [study.task or "Pretraining of ECG models"],
        "data_limitations": ["Counts by site, split and label stand in counts.csv; nothing is known beyond them."],
        "data_biases": ["Patients are those of the named sites, who need not resemble others."],
        "personal_sensitive_information": [
            f"{whose} Identifiers of patients are keyed pseudonyms. None of them, no ECG and no file name of a "
            "hospital is in this export."
        ],
        "data_social_impact": "No statement is made beyond the figures of the evaluations.",
        "data_release_maintenance_plan": f"Described as of {zulu(facts.output.ended_at)}; not updated.",
    }
