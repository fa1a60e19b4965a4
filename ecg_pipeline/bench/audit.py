"""Time and memory of audit, trace and verify as users run them, over an invented home of the paper's size."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl

from ecg_pipeline.bench.alone import run_in_new_process
from ecg_pipeline.bench.compare import Row, compare, within
from ecg_pipeline.bench.invented_home import MODELS, TASKS, home_of_files, invented_home
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.provenance.archive import Archive

ALL = 8_500_000
REPEATS = 3
MB_LIMIT = 1500
FILES, SMALLEST_MB, LARGEST_MB = 110, 5, 50
"""Files of the home that is verified in full: a few gigabytes, in files as large as shards."""

MODEL = f"{next(iter(TASKS))}/{MODELS[0]}/finetuned_model"


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds and processor seconds of a command, and its peak memory in megabytes."""

    seconds: float
    processor_s: float
    peak_mb: float


def audit() -> list[Row]:
    """The commands over a home of the paper's size, and a full verification against sha256sum."""
    with TemporaryDirectory() as folder:
        home = Path(folder, "home")
        run_in_new_process(invented_home, home, ALL)
        patient, repeated = run_in_new_process(patients, home)
        commands = {
            "audit": ("audit", f"{MODEL}@1"),
            "trace": ("trace", "--pseudonym", patient),
            "trace-duplicate": ("trace", "--pseudonym", repeated),
            "verify-quick": ("verify", "--quick"),
        }
        limits = {"audit": 10, "trace": 5, "trace-duplicate": 5, "verify-quick": 60}
        rows = []
        for name, command in commands.items():
            rows += _rows(name, run_in_new_process(costs, command, home, REPEATS), limits[name])
    return [*rows, _verify()]


def patients(home: Path) -> tuple[str, str]:
    """A patient whom a model was trained on, and one with an ECG that repeats another one of any patient."""
    archive = Archive(home)
    trained = archive.folder(archive.require(MODEL, "1")) / "trained_on.parquet"
    site, patient = pl.read_parquet(trained, n_rows=1).select("site", "patient").row(0)
    rejects = pl.read_parquet(archive.folder(archive.require("waveform_store", site)) / "rejects.parquet")
    return patient, rejects.filter(reason=str(RejectReason.DUPLICATE_WAVEFORM))["patient"][0]


def costs(command: Sequence[str], home: Path, repeats: int) -> list[Cost]:
    """Run a command of `ecg-pipeline` on a home, once to warm up and then `repeats` times.

    Call it in a process of its own: a child's peak memory begins with that of its parent.
    """
    return [_cost(command, home) for _ in range(repeats + 1)][1:]


def _cost(command: Sequence[str], home: Path) -> Cost:
    began = time.perf_counter()
    process = _start(command, home)
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"ecg-pipeline {' '.join(command)} ended with status {process.returncode}")
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def _start(command: Sequence[str], home: Path) -> subprocess.Popen:
    arguments = [sys.executable, "-m", "ecg_pipeline.cli", *command, "--home", str(home)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(home.parent / "cache")}
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, env=environment)  # noqa: S603


def _rows(name: str, measured: Sequence[Cost], limit_s: float) -> list[Row]:
    """A row for the time of a command and one for its memory."""
    processor = ", ".join(f"{cost.processor_s:.1f}" for cost in measured)
    size = f"{ALL:,} ECGs, a new process"
    return [
        within(
            name,
            against=f"a limit; processor time {processor} s",
            measured=[cost.seconds for cost in measured],
            limit=limit_s,
            unit=f"seconds at most, {size}",
        ),
        within(
            f"{name}-memory",
            against="a limit",
            measured=[cost.peak_mb for cost in measured],
            limit=MB_LIMIT,
            unit=f"MB at most, {size}",
        ),
    ]


def _verify() -> Row:
    """A full verification, of a home whose files are as large as shards, in a new process each time."""
    sizes = [round(megabytes * 1e6) for megabytes in np.linspace(SMALLEST_MB, LARGEST_MB, FILES)]
    with TemporaryDirectory() as folder:
        home = Path(folder, "home")
        run_in_new_process(home_of_files, home, sizes)
        names = b"\0".join(str(path).encode() for path in sorted(home.rglob("*")) if path.is_file())
        digests = ["xargs", "-0", "-n", "1", "-P", str(os.cpu_count() or 1), "sha256sum"]

        def ours() -> None:
            if _start(["verify"], home).wait():
                raise RuntimeError("the home was altered while it was verified")

        def theirs() -> None:
            subprocess.run(digests, input=names, stdout=subprocess.DEVNULL, check=True)  # noqa: S603

        return compare(
            "verify",
            against="sha256sum of the same files, run by xargs on as many cores",
            ours=ours,
            theirs=theirs,
            target=0.8,
            unit=f"of its speed, {sum(sizes) / 1e9:.1f} GB in {FILES} files of {SMALLEST_MB} to {LARGEST_MB} MB",
        )
