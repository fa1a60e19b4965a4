"""The record of one materialisation: its inputs, its files, and the code, packages and hardware that made it.

A record names each upstream output by the digest of that output's record. So the digest of a model's record covers, as
the root of a Merkle tree, every record and through them every file that the model was made of.
"""

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ecg_pipeline.storage.files import digest_json, sha256_bytes, write_text

VERSION = 2
"""Version of the record's own keys. Version 1 had no digests of records, and digests cut to 16 digits; it is read."""

LAYOUT = 3
"""Version of the names of files and columns in outputs, raised by hand when older outputs can no longer be read."""

CUT = 16
"""Digits of a digest in the names of build folders, and of all digests in records of version 1."""


class LayoutError(ValueError):
    """An output was written with other names of files and columns than this version reads."""


@dataclass(frozen=True)
class Upstream:
    """One upstream partition, with the data version that was loaded.

    record: digest of its record; None for a source asset, which has none, and in records of version 1. Two entries
    are equal if asset, partition and data version are.
    """

    asset: str
    partition: str | None
    data_version: str
    record: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class CheckOutcome:
    """How an asset check ended when the output was made. warns: a check that blocks nothing, or passed with a note."""

    name: str
    passed: bool
    warns: bool


@dataclass(frozen=True, kw_only=True)
class Record:
    """Provenance of one output. Stored as `record.json`; digests are SHA-256 in hex, times ISO 8601 in UTC.

    build: digest of code version and upstream versions; its first 16 digits name the output's folder.
    data_version: digest of the output's files, so that unchanged content is an unchanged version.
    identity: what the code version hashes: the settings of the study that this asset uses, and its module's REVISION.
    study: fingerprint of the study. study_text, environment, shown: digests of documents (`archive.Documents`): the
    study file, the installed packages, and the metadata that the UI shows.
    files, sizes: SHA-256 and bytes of each file by its path in the build's folder.
    command, user, peak_memory_bytes: of the process that made the output. Records of version 1 lack them.
    digest: SHA-256 of the record's own file; None before it is saved. Not part of the file.
    """

    asset: str
    partition: str | None
    build: str
    data_version: str
    code_version: str
    identity: dict[str, Any]
    study: str
    study_text: str | None = None
    upstream: tuple[Upstream, ...]
    files: dict[str, str]
    sizes: dict[str, int] = field(default_factory=dict)
    checks: tuple[CheckOutcome, ...] = ()
    seeds: dict[str, int]
    git_commit: str | None
    git_dirty: bool | None
    environment: str | None = None
    packages: dict[str, str]
    hardware: dict[str, Any]
    command: tuple[str, ...] = ()
    user: str | None = None
    peak_memory_bytes: int | None = None
    dagster_run_id: str | None
    mlflow_run_id: str | None
    mlflow_model_id: str | None = None
    shown: str | None = None
    started_at: str
    ended_at: str
    version: int = VERSION
    digest: str | None = field(default=None, compare=False)

    @property
    def seconds(self) -> float:
        """How long it took to make the output."""
        return (datetime.fromisoformat(self.ended_at) - datetime.fromisoformat(self.started_at)).total_seconds()

    @property
    def size_bytes(self) -> int:
        """Size of the output."""
        return sum(self.sizes.values())

    def is_of(self, code_version: str, upstream: tuple[Upstream, ...]) -> bool:
        """Whether the output was made by this code version from these upstream versions."""
        stated = tuple(replace(of, data_version=self.as_stated(of.data_version)) for of in upstream)
        return self.build == self.as_stated(build_id(self.as_stated(code_version), stated))

    def as_stated(self, digest: str) -> str:
        """A digest as this record states it: records of version 1 hold the first 16 digits."""
        return digest[:CUT] if self.version == 1 else digest


def record_text(record: Record) -> str:
    """The content of a record's file."""
    content = asdict(record)
    del content["digest"], content["version"]
    return json.dumps({"version": record.version, "layout": LAYOUT, **content}, indent=2, ensure_ascii=False) + "\n"


def write_record(path: Path, record: Record) -> Path:
    """Write a record atomically."""
    return write_text(path, record_text(record))


def read_record(path: Path) -> Record:
    """Read a record written by `write_record`, or one of version 1. One of another layout is a LayoutError."""
    stored = path.read_bytes()
    content = json.loads(stored)
    layout = content.pop("layout", 1)
    if layout != LAYOUT:
        raise LayoutError(
            f"{path} was written by another version of ecg_pipeline (layout {layout}, this one reads {LAYOUT}). "
            "Set ECG_HOME to a new folder and run again, or go back to the version that wrote it; nothing was changed."
        )
    version = content.setdefault("version", 1)
    if version > VERSION:
        raise LayoutError(
            f"{path} is a record of version {version}, and this version of ecg_pipeline reads {VERSION} at most: "
            "update ecg_pipeline; nothing was changed."
        )
    if version == 1:
        content |= {"data_version": content_version(content["files"]), "code_version": digest_json(content["identity"])}
    return Record(
        **content
        | {
            "upstream": tuple(Upstream(**entry) for entry in content["upstream"]),
            "checks": tuple(CheckOutcome(**check) for check in content.get("checks", ())),
            "command": tuple(content.get("command", ())),
            "digest": sha256_bytes(stored),
        }
    )


def build_id(code_version: str, upstream: tuple[Upstream, ...]) -> str:
    """The digest that identifies a build: of the code version and the upstream versions."""
    entries = sorted([entry.asset, entry.partition or "", entry.data_version] for entry in upstream)
    return digest_json([code_version, entries])


def content_version(files: dict[str, str]) -> str:
    """The data version of an output: a digest of the names and digests of its files."""
    return digest_json(files)


def seeds_in(identity: Any, path: str = "") -> dict[str, int]:
    """The values of all keys `seed` and `seeds` in an identity, by their dotted path."""
    if not isinstance(identity, dict):
        return {}
    found: dict[str, int] = {}
    for name, value in identity.items():
        place = f"{path}.{name}" if path else name
        if name == "seed":
            found[place] = value
        elif name == "seeds":
            found |= {f"{place}.{number}": seed for number, seed in enumerate(value)}
        else:
            found |= seeds_in(value, place)
    return found
