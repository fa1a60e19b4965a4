"""The code, packages, machine and user of this process, as a record states them."""

import getpass
import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from ecg_pipeline.storage.files import sha256_file

RECORDED_PACKAGES = ("dagster", "mlflow", "numba", "numpy", "polars", "scipy", "timm", "torch", "wfdb", "zarr")
"""Packages whose versions stand in every record; all others are in its environment."""

_CODE = Path(__file__).parent.parent


@cache
def package_versions() -> dict[str, str]:
    """Versions of Python, of this package, and of the packages that outputs depend on most."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {"python": platform.python_version(), "ecg-pipeline": importlib.metadata.version("ecg-pipeline")} | versions


@cache
def environment() -> dict[str, Any]:
    """Every installed package with its version, and the SHA-256 of `requirements.lock`, null where there is none."""
    installed = sorted({(found.name.lower(), found.version) for found in importlib.metadata.distributions()})
    lock = _CODE.parent / "requirements.lock"
    return {
        "python": platform.python_version(),
        "lock_sha256": sha256_file(lock) if lock.is_file() else None,
        "packages": dict(installed),
    }


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Commit of the git checkout that this code is in, and whether it is dirty; (None, None) outside a checkout."""

    def git(*arguments: str) -> str | None:
        return _output_of("git", *arguments)

    if not git("ls-files", "--error-unmatch", "provenance/environment.py"):
        return None, None
    return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))


def hardware(device: str, threads: int) -> dict[str, Any]:
    """The machine: stored for information, not part of an identity. The number of threads affects rounding.

    gpu, driver: of the first GPU; null if `device` is not a GPU of NVIDIA.
    """
    gpu, driver = _gpu() if device.startswith("cuda") else (None, None)
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device,
        "gpu": gpu,
        "driver": driver,
    }


def user() -> str:
    """Name of the account that runs this process, or its number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def command() -> tuple[str, ...]:
    """The command line of this process."""
    return tuple(sys.argv)


def peak_memory_bytes() -> int:
    """Largest memory of this process or of one of its ended children, up to now."""
    kilobyte = 1 if platform.system() == "Darwin" else 1024
    return kilobyte * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


@cache
def _gpu() -> tuple[str | None, str | None]:
    said = _output_of("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not said:
        return None, None
    name, driver = said.splitlines()[0].rsplit(",", 1)
    return name.strip(), driver.strip()


def _output_of(*command: str) -> str | None:
    """What a command prints, run in the package's folder; None if there is no such command or it fails."""
    try:
        done = subprocess.run(command, cwd=_CODE, capture_output=True, text=True, check=False)  # noqa: S603
    except FileNotFoundError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
