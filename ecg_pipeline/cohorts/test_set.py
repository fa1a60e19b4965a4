"""The test set of one site: its tested ECGs with a copy of their images, so that an evaluation reads nothing else."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TestSet(ArrayShards):
    """The tested ECGs of one site. Files: `test_set.parquet` and those of `ArrayShards`."""

    def table(self) -> pl.DataFrame:
        """The rows of the cohort, one an ECG; columns as in `Cohort.table`."""
        return pl.read_parquet(self.folder / "test_set.parquet")


def assemble_test_set(tested: pl.DataFrame, view: ArrayShards, out: Path) -> TestSet:
    """Copy the tested ECGs of a site's view, such as its images, to `out`, shard by shard.

    tested: rows of a cohort, of that site. An ECG that the view lacks is a KeyError.
    """
    placed = tested.select("ecg_id").join(view.index(), on="ecg_id", how="left").sort("shard", "row")
    if missing := placed["shard"].null_count():
        raise KeyError(f"{missing} tested ECGs of {len(placed)} are not in {view.folder}")
    index = []
    for (shard,), rows in placed.group_by("shard", maintain_order=True):
        write_shard(out, int(shard), view.read(int(shard))[rows["row"].to_numpy()])  # type: ignore[call-overload]
        index.append(rows.with_columns(row=pl.int_range(len(rows), dtype=pl.Int32)))
    write_parquet(out / "test_set.parquet", tested.sort("ecg_id"))
    write_index(out, pl.concat(index) if index else placed)
    return TestSet(out)
