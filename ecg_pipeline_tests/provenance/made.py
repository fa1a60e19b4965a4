"""Outputs with records, written straight into an archive."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Record, Upstream, build_id, content_version, seeds_in
from ecg_pipeline.storage.files import digest_json, folder_digests, write_parquet
from ecg_pipeline_tests.provenance.test_record import RECORD

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def made(
    archive: Archive,
    asset: str,
    partition: str | None = None,
    *,
    upstream: Sequence[Record | Upstream] = (),
    identity: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes | pl.DataFrame] | None = None,
    minute: int = 0,
    **more: Any,
) -> Record:
    """Write an output and its record. files: content by path. minute: when it was made. more: fields of the record."""
    stated = dict(identity or {"revision": 1})
    entries = tuple(
        one if isinstance(one, Upstream) else Upstream(one.asset, one.partition, one.data_version, one.digest)
        for one in upstream
    )
    build = build_id(digest_json(stated), entries)
    folder = archive.build_folder(asset, partition, build)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (files or {"output.txt": f"{asset} {partition} {build}".encode()}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            (folder / name).write_bytes(content)
        else:
            write_parquet(folder / name, content)
    digests, began = folder_digests(folder), START + timedelta(minutes=minute)
    record = replace(
        RECORD,
        asset=asset,
        partition=partition,
        build=build,
        data_version=content_version(digests),
        code_version=digest_json(stated),
        identity=stated,
        upstream=entries,
        files=digests,
        sizes={name: (folder / name).stat().st_size for name in digests},
        seeds=seeds_in(stated),
        started_at=began.isoformat(timespec="milliseconds"),
        ended_at=(began + timedelta(seconds=30)).isoformat(timespec="milliseconds"),
    )
    return archive.save(replace(record, **more))
