"""Time and memory of the pipeline from exports to images, for a small and a large number of ECGs."""

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import polars as pl
import psutil

from ecg_pipeline.bench.alone import run_in_new_process
from ecg_pipeline.bench.compare import Row, within
from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.signals.filters import FilterRecipe, filter_site

SMALL, LARGE, ALL = 5_000, 50_000, 8_500_000
WORKERS = 2
SAMPLE_INTERVAL_S = 0.05


@dataclass(frozen=True)
class Cost:
    """Wall-clock seconds of the pipeline, and its peak memory in megabytes: that of all its processes together."""

    seconds: float
    peak_mb: float


def end_to_end() -> list[Row]:
    """Hours for all the ECGs of the paper."""
    hours = measure_pipeline(LARGE).seconds / LARGE * ALL / 3600
    against = f"nothing: absolute, projected from {LARGE:,} exports"
    unit = f"hours for {ALL:,} ECGs at most, {WORKERS} processes"
    return [within("end-to-end", against=against, measured=[hours], limit=4, unit=unit)]


def linearity() -> list[Row]:
    """Time per ECG of the large run relative to that of the small run."""
    growth = (measure_pipeline(LARGE).seconds / LARGE) / (measure_pipeline(SMALL).seconds / SMALL)
    against, unit = f"itself at {SMALL:,} ECGs", f"times the time an ECG at {LARGE:,}"
    return [within("linearity", against=against, measured=[growth], limit=1.1, unit=unit)]


def memory() -> list[Row]:
    """Peak memory of the pipeline's processes together, at both sizes."""
    return [
        within(
            "memory",
            against=f"a limit, {ecgs:,} ECGs",
            measured=[measure_pipeline(ecgs).peak_mb],
            limit=1500,
            unit=f"MB at most, {WORKERS} processes",
        )
        for ecgs in (SMALL, LARGE)
    ]


def ecgs_query() -> list[Row]:
    """Query all ECGs of one patient from a table as large as the paper's, scanned by polars."""
    rng = np.random.default_rng(0)
    patients = np.array([rng.bytes(16).hex() for _ in range(ALL // 4)])
    table = pl.DataFrame(
        {
            "ecg_id": pl.int_range(ALL, eager=True).cast(pl.String),
            "site": "mount_sinai",
            "patient": patients[rng.integers(0, len(patients), ALL)],
            "shard": pl.int_range(ALL, dtype=pl.Int32, eager=True) // 1024,
        }
    )
    seconds = []
    with TemporaryDirectory() as folder:
        path = Path(folder, "ecgs.parquet")
        table.write_parquet(path, compression="zstd")
        del table
        for patient in patients[:: len(patients) // 5]:
            began = time.perf_counter()
            pl.scan_parquet(path).filter(pl.col("patient") == patient).collect()
            seconds.append(time.perf_counter() - began)
    unit = f"seconds at most, one patient among {ALL:,} ECGs"
    return [within("ecgs-query", against="a limit", measured=seconds, limit=1, unit=unit)]


def import_definitions() -> list[Row]:
    """Load the demo's asset graph in a fresh process."""
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import ecg_pipeline.definitions"], check=True)
        seconds.append(time.perf_counter() - began)
    return [within("import", against="a limit", measured=seconds, limit=4, unit="seconds at most")]


@cache
def measure_pipeline(ecgs: int) -> Cost:
    """Cost of the pipeline over a number of exports of 140 KB each, measured once in a fresh process."""
    with TemporaryDirectory() as folder:
        write_exports(Path(folder, "exports"), ecgs)
        return run_in_new_process(_run, Path(folder))


def _run(folder: Path) -> Cost:
    """Run the pipeline over `exports` in a folder."""
    drop = DropFolder("bench", folder / "exports", "muse_xml", mrn_system="bench")
    peak = _Peak()
    began = time.perf_counter()
    with peak:
        store = ingest_site(
            drop,
            list_files(drop),
            recipe=IngestRecipe(),
            key=PseudonymKey(b"bench" * 8),
            out=folder / "store",
            workers=WORKERS,
        )
        filtered = filter_site(store, FilterRecipe(), folder / "filtered", workers=WORKERS)
        render_site(filtered, SheetRecipe(), folder / "images", workers=WORKERS)
    return Cost(time.perf_counter() - began, peak.mb)


class _Peak:
    """Peak resident memory of this process and those it has started, sampled repeatedly."""

    def __init__(self) -> None:
        self.mb = 0.0
        self.done = threading.Event()

    def __enter__(self) -> None:
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self.done.wait(SAMPLE_INTERVAL_S):
            held = 0
            for process in [me, *me.children(recursive=True)]:
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.mb = max(self.mb, held / 1e6)
