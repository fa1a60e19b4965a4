"""The waveform store: every ECG of a site as recorded, in Zarr, with one row per ECG and one per unused file.

ECGs are kept in shards of up to 1,024 in the order of their files' names. A shard's waveforms are int16 counts in the
recorded leads and rate, one array for each shape that occurs; the table of ECGs holds their scale.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ingest.rejects import READER_ERROR
from ecg_pipeline.leads import limb_lead
from ecg_pipeline.storage.shards import open_array, shard_name, shards_in

REVISION = 5
"""Bumped by hand when the store of the same files changes."""

ECG_SCHEMA = {
    "ecg_id": pl.String,
    "site": pl.String,
    "patient": pl.String,
    "shard": pl.Int32,
    "array": pl.String,
    "row": pl.Int32,
    "microvolts_per_count": pl.List(pl.Float64),
    "leads": pl.List(pl.String),
    "sampling_hz": pl.Int32,
    "samples": pl.Int32,
    "source": pl.String,
    "source_sha256": pl.String,
    "waveform_sha256": pl.String,
    "acquired_at": pl.Datetime,
    "age_years": pl.Float64,
    "sex": pl.String,
    "device": pl.String,
    "fold": pl.Int32,
    "rounding_microvolts": pl.Float64,
}
REJECT_SCHEMA = {
    "site": pl.String,
    "source": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "twin": pl.String,
    "patient": pl.String,
}
WAVEFORMS = "waveforms.zarr"

BLOCK = 64
"""ECGs converted to millivolts at once: bounds memory, changes no result."""


@dataclass(frozen=True)
class WaveformStore:
    """A site's ECGs as recorded. Files: `waveforms.zarr`, `ecgs.parquet`, `rejects.parquet`."""

    folder: Path

    def scan(self) -> pl.LazyFrame:
        """One row per ECG, in the order of the files' names; columns as in `ECG_SCHEMA`.

        patient: null where unknown. source: the file's name, or at a private site its keyed digest.
        waveform_sha256: the recording, whatever its scale; see `reading.waveform_sha256`. rounding_microvolts: largest
        difference to the file's samples; 0 where the file holds counts.
        """
        return pl.scan_parquet(self.folder / "ecgs.parquet")

    def ecgs(self) -> pl.DataFrame:
        """All of `scan()`."""
        return self.scan().collect()

    def rejects(self) -> pl.DataFrame:
        """One row per unused file; columns as in `REJECT_SCHEMA`. `twin` is the ECG that a duplicate repeats.

        patient: null where the file could not be read so far, and where the patient withdrew.
        """
        return pl.read_parquet(self.folder / "rejects.parquet")

    def files_seen(self) -> int:
        """Number of files read, used or not."""
        return self.scan().select(pl.len()).collect().item() + len(self.rejects())

    def reader_errors(self) -> dict[str, int]:
        """How many files a reader failed on, by the name of the exception: faults of the readers or of the disk."""
        name = pl.col("detail").str.extract(rf"^{READER_ERROR}([\w.]+)$").alias("exception")
        return dict(self.rejects().select(name).drop_nulls().group_by("exception").len().sort("exception").iter_rows())

    def shards(self) -> list[int]:
        """Numbers of the shards that hold at least one ECG."""
        return shards_in(self.scan())

    def counts(self, rows: pl.DataFrame) -> NDArray[np.int16]:
        """(n, L, T) counts of rows of `ecgs()` that share a shard and an array."""
        if rows.select("shard", "array").n_unique() != 1:
            raise ValueError("counts are read from one shard and one array at a time")
        array = open_array(self.folder / WAVEFORMS / shard_name(rows["shard"][0]) / rows["array"][0])
        wanted = rows["row"].to_numpy()
        # Zarr reads single rows a hundred times slower than a range of them.
        first, last = wanted.min(), wanted.max()
        block = np.asarray(array[first : last + 1])
        return block if np.array_equal(wanted, np.arange(first, last + 1)) else block[wanted - first]

    def millivolts(
        self, rows: pl.DataFrame, leads: Sequence[str], seconds: float | None = None
    ) -> Iterator[tuple[pl.DataFrame, NDArray[np.float32]]]:
        """Blocks of at most `BLOCK` rows that share an array, each with the millivolts (n, L, T) of its ECGs.

        rows: of one shard. leads: in this order. seconds: how much of each recording, rounded up to samples; None is
        all. A limb lead that was not recorded is derived from I and II.
        """
        for run in rows.partition_by("array", maintain_order=True):
            samples = None if seconds is None else ceil(seconds * run["sampling_hz"][0])
            for chosen in run.iter_slices(BLOCK):
                yield chosen, _millivolts(self.counts(chosen)[..., :samples], chosen, leads)


def _millivolts(counts: NDArray[np.int16], rows: pl.DataFrame, leads: Sequence[str]) -> NDArray[np.float32]:
    recorded: list[str] = rows["leads"][0].to_list()
    scales = np.array(rows["microvolts_per_count"].to_list())[:, :, None] / 1000

    @cache
    def recorded_mv(lead: str) -> NDArray[np.float64]:
        place = recorded.index(lead)
        return counts[:, place] * scales[:, place]

    x_mv = np.empty((len(rows), len(leads), counts.shape[-1]), np.float32)
    for place, lead in enumerate(leads):
        x_mv[:, place] = recorded_mv(lead) if lead in recorded else limb_lead(lead, recorded_mv("I"), recorded_mv("II"))
    return x_mv
