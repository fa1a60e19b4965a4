"""Small outputs with records, of tables alone."""

from dataclasses import replace

import polars as pl

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Record, Upstream, build_id, content_version
from ecg_pipeline.storage.files import folder_digests, write_parquet
from ecg_pipeline_tests.provenance.test_record import RECORD


def save_output(archive: Archive, asset: str, partition=None, *, tables, of=(), code="1", at=1) -> Record:
    """Store an output of some tables, made of other outputs, and return its record."""
    upstream = tuple(Upstream(up.asset, up.partition, up.data_version, up.digest) for up in of)
    build = build_id(code, (*upstream, Upstream("made", None, str(at))))
    folder = archive.build_folder(asset, partition, build)
    for name, table in tables.items():
        write_parquet(folder / name, pl.DataFrame(table))
    files = folder_digests(folder)
    stamp = f"2026-01-01T00:00:{at:02d}.000+00:00"
    record = replace(RECORD, asset=asset, partition=partition, build=build, upstream=upstream, files=files)
    return archive.save(replace(record, data_version=content_version(files), started_at=stamp, ended_at=stamp))


def ecgs(*rows, shard=0):
    """A store's table of ECGs. rows: patient and ECG of each; the waveform is named after the ECG."""
    return {
        "ecg_id": [ecg for _, ecg in rows],
        "patient": [patient for patient, _ in rows],
        "site": ["north"] * len(rows),
        "shard": [shard] * len(rows),
        "source": [f"{ecg}.xml" for _, ecg in rows],
        "source_sha256": [f"file of {ecg}" for _, ecg in rows],
        "waveform_sha256": [f"waveform of {ecg}" for _, ecg in rows],
    }


def rejects(*rows):
    """A store's table of rejects. rows: patient, file and reason of each."""
    return {
        "site": ["north"] * len(rows),
        "source": [source for _, source, _ in rows],
        "reason": [reason for _, _, reason in rows],
        "patient": pl.Series([patient for patient, _, _ in rows], dtype=pl.String),
        "twin": pl.Series([None] * len(rows), dtype=pl.String),
    }
