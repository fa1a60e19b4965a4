"""Who is tested at one site, with the rows of what networks read: an evaluation needs nothing else of the site."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ArrayParts, PartsWriter

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TestSet(ArrayParts):
    """The tested ECGs of one site. Files: `test_set.parquet` and those of `ArrayParts`."""

    def table(self) -> pl.DataFrame:
        """Their rows of the cohort, one an ECG; columns as in `Cohort.table`."""
        return pl.read_parquet(self.folder / "test_set.parquet")


def assemble_test_set(tested: pl.DataFrame, view: ArrayParts, out: Path) -> TestSet:
    """Copy the rows of a site's view that are tested to `out`, part by part.

    tested: rows of one site of a cohort. One that the view lacks is a KeyError.
    """
    writer = PartsWriter(out)
    placed = tested.select("record").join(view.index(), on="record", how="left").sort("part", "row")
    if missing := placed["part"].null_count():
        raise KeyError(f"{missing} tested ECGs of {len(placed)} are not in {view.folder}")
    index = []
    for (part,), rows in placed.group_by("part", maintain_order=True):
        writer.write(int(part), view.read(int(part))[rows["row"].to_numpy()])  # type: ignore[call-overload]
        index.append(rows.with_columns(row=pl.int_range(len(rows), dtype=pl.Int32)))
    write_parquet(out / "test_set.parquet", tested.sort("record"))
    writer.finish(pl.concat(index) if index else placed)
    return TestSet(out)
