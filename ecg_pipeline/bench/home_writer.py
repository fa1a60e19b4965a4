"""Writing the files and records of a home fast, without running the pipeline: for benchmarks and their tests."""

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import CheckOutcome, Record, Upstream, build_id, content_version, seeds_in
from ecg_pipeline.storage.files import ROW_GROUP, digest_json, sha256_bytes, sha256_file
from ecg_pipeline.storage.shards import INPUT_DIGESTS, shard_name
from ecg_pipeline.study import load_study, study_content, study_file

PACKAGES = ("dagster", "mlflow", "numba", "numpy", "polars", "scipy", "timm", "torch", "wfdb", "zarr")
START = datetime(2026, 1, 5, 8, tzinfo=UTC)


@dataclass
class Output:
    """The files of one build while they are written. files: SHA-256, sizes: bytes, both by path in the build."""

    folder: Path
    files: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)

    def bytes(self, name: str, content: bytes) -> None:
        """Write a file."""
        path = self._path(name)
        with open(path, "wb") as file:  # noqa: PTH123 (pathlib is slow for a quarter of a million files)
            file.write(content)
        self.files[name], self.sizes[name] = hashlib.sha256(content).hexdigest(), len(content)

    def table(self, name: str, table: pl.DataFrame) -> Path:
        """Write a table, with the row groups and compression of `storage.files.write_parquet`."""
        path = Path(self._path(name))
        table.write_parquet(path, compression="zstd", row_group_size=ROW_GROUP)
        self._note(name, path)
        return path

    def link(self, name: str, source: Path) -> None:
        """Hard-link a file of another output."""
        path = Path(self._path(name))
        os.link(source, path)
        self._note(name, path)

    def array(self, name: str, axes: int) -> None:
        """Write the files of a Zarr array of one shard, of a few bytes."""
        self.bytes(f"{name}/c{'/0' * axes}", name.encode())
        self.bytes(f"{name}/zarr.json", b'{"zarr_format": 3, "node_type": "array"}')

    def input_digest(self, shard: int) -> None:
        """Write the digest of a shard's input, which is no part of the output."""
        Path(self._path(f"{INPUT_DIGESTS}/{shard_name(shard)}")).write_text(sha256_bytes(str(shard).encode()))

    def _path(self, name: str) -> str:
        parent = name.rpartition("/")[0]
        if parent not in self.made:
            (self.folder / parent).mkdir(parents=True, exist_ok=True)
            self.made.add(parent)
        return f"{self.folder}/{name}"

    def _note(self, name: str, path: Path) -> None:
        self.files[name], self.sizes[name] = sha256_file(path), path.stat().st_size


@dataclass
class Home:
    """A home while it is written. minutes: since `START`, at the end of the newest output."""

    archive: Archive
    study: str
    study_text: str
    environment: str
    minutes: int = 0

    def add(
        self,
        name: str,
        upstream: Sequence[Record | Upstream],
        write: Callable[[Output], object],
        *,
        identity: Mapping[str, Any] | None = None,
    ) -> Record:
        """Write the files of an output, then its record. name: asset, or `asset@partition`."""
        asset, _, partition = name.partition("@")
        settings = {"revision": 1, **(identity or {})}
        entries = tuple(
            one if isinstance(one, Upstream) else Upstream(one.asset, one.partition, one.data_version, one.digest)
            for one in upstream
        )
        build = build_id(digest_json(settings), entries)
        output = Output(self.archive.build_folder(asset, partition or None, build))
        write(output)
        began, self.minutes = START + timedelta(minutes=self.minutes), self.minutes + 1
        return self.archive.save(
            Record(
                asset=asset,
                partition=partition or None,
                build=build,
                data_version=content_version(output.files),
                code_version=digest_json(settings),
                identity=settings,
                study=self.study,
                study_text=self.study_text,
                upstream=entries,
                files=dict(sorted(output.files.items())),
                sizes=dict(sorted(output.sizes.items())),
                checks=(CheckOutcome("no_withdrawn_patients", passed=True, warns=False),),
                seeds=seeds_in(settings),
                git_commit="0123456789abcdef0123456789abcdef01234567",
                git_dirty=False,
                environment=self.environment,
                packages=dict.fromkeys(PACKAGES, "1.2.3"),
                hardware={"machine": "x86_64", "system": "Linux", "cores": 32, "threads": 1, "device": "cuda"},
                command=("ecg-pipeline", "materialize"),
                user="researcher",
                peak_memory_bytes=2**30,
                dagster_run_id=f"run-{self.minutes:04}",
                mlflow_run_id=None,
                started_at=began.isoformat(timespec="milliseconds"),
                ended_at=(began + timedelta(seconds=50)).isoformat(timespec="milliseconds"),
            )
        )


def empty_home(folder: Path) -> Home:
    """A home without outputs, of the paper's study."""
    study, archive = load_study(study_file("heartbeit")), Archive(folder)
    environment = {"python": "3.11.7", "lock_sha256": "1" * 64, "packages": dict.fromkeys(PACKAGES, "1.2.3")}
    documents = archive.documents
    return Home(archive, study.fingerprint(), documents.save(study_content(study)), documents.save(environment))
