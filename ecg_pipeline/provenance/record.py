"""The record of one materialisation: its inputs, its files, and the code, packages and hardware that made it."""

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ecg_pipeline.storage.files import digest_json, read_json, write_json

RECORDED_PACKAGES = ("dagster", "mlflow", "numba", "numpy", "polars", "scipy", "timm", "torch", "wfdb", "zarr")


LAYOUT = 3
"""Version of the names of files and columns in outputs, raised by hand when older outputs can no longer be read."""


class LayoutError(ValueError):
    """An output was written with other names of files and columns than this version reads."""


@dataclass(frozen=True)
class Upstream:
    """One upstream partition, with the data version that was loaded."""

    asset: str
    partition: str | None
    data_version: str


@dataclass(frozen=True)
class Record:
    """Provenance of one output. Stored as `record.json`; times are ISO 8601 in UTC.

    build: digest of code version and upstream versions, and name of the output's folder.
    data_version: digest of the output's files, so that unchanged content is an unchanged version.
    identity: what the code version hashes: the settings of the study that this asset uses, and its module's REVISION.
    files: SHA-256 of each file by its path in the build's folder.
    """

    asset: str
    partition: str | None
    build: str
    data_version: str
    code_version: str
    identity: dict[str, Any]
    study: str
    upstream: tuple[Upstream, ...]
    files: dict[str, str]
    seeds: dict[str, int]
    git_commit: str | None
    git_dirty: bool | None
    packages: dict[str, str]
    hardware: dict[str, Any]
    dagster_run_id: str | None
    mlflow_run_id: str | None
    started_at: str
    ended_at: str


def write_record(path: Path, record: Record) -> Path:
    """Write a record atomically."""
    return write_json(path, {"layout": LAYOUT, **asdict(record)})


def read_record(path: Path) -> Record:
    """Read a record written by `write_record`. One of another layout is a LayoutError."""
    content = read_json(path)
    layout = content.pop("layout", 1)
    if layout != LAYOUT:
        raise LayoutError(
            f"{path} was written by another version of ecg_pipeline (layout {layout}, this one reads {LAYOUT}). "
            "Set ECG_HOME to a new folder and run again, or go back to the version that wrote it; nothing was changed."
        )
    upstream = tuple(Upstream(**entry) for entry in content.pop("upstream"))
    return Record(upstream=upstream, **content)


def build_id(code_version: str, upstream: tuple[Upstream, ...]) -> str:
    """Name of a build: 16 hex digits, a digest of the code version and the upstream versions."""
    entries = sorted([entry.asset, entry.partition or "", entry.data_version] for entry in upstream)
    return digest_json([code_version, entries])[:16]


def content_version(files: dict[str, str]) -> str:
    """The data version of an output: 16 hex digits, a digest of the names and digests of its files."""
    return digest_json(files)[:16]


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


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python, of this package, and of the packages that outputs depend on."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {"python": platform.python_version(), "ecg-pipeline": importlib.metadata.version("ecg-pipeline")} | versions


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the git checkout that this code is in, and whether it is dirty; (None, None) outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603, S607
        except FileNotFoundError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    tracked = git("ls-files", "--error-unmatch", Path(__file__).name)
    if not tracked:
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))


def hardware() -> dict[str, Any]:
    """The machine: stored for information, not part of an identity. The number of threads affects rounding."""
    cores = os.cpu_count()
    threads = int(os.environ.get("OMP_NUM_THREADS") or cores or 1)
    return {"machine": platform.machine(), "system": platform.system(), "cores": cores, "threads": threads}
