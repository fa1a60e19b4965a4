"""The test set of one site: its tested ECGs with a copy of what models read of them, so that an evaluation reads
nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.storage.files import read_json, write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard

REVISION = 2
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TestSet:
    """The tested ECGs of one site. Files: `test_set.parquet`, `left_out.json`, and the views in `views`."""

    folder: Path

    def table(self) -> pl.DataFrame:
        """The rows of the cohort, one an ECG; columns as in `Cohort.table`."""
        return pl.read_parquet(self.folder / "test_set.parquet")

    def view(self, name: str) -> ArrayShards:
        """A view of these ECGs."""
        return ArrayShards(_folder(self.folder, name))

    def left_out(self) -> dict[str, int]:
        """How many ECGs are not tested because a view lacks them, by the view's name."""
        return read_json(self.folder / "left_out.json")


def assemble_test_set(tested: pl.DataFrame, views: Mapping[str, ArrayShards], out: Path) -> TestSet:
    """Copy the tested ECGs of a site's views, such as its images, to `out`, shard by shard.

    tested: rows of a cohort, of that site. An ECG that one of the views lacks is not tested, so that all models are
    tested on the same ECGs.
    """
    left_out = {name: len(tested.join(view.index(), on="ecg_id", how="anti")) for name, view in views.items()}
    for view in views.values():
        tested = tested.join(view.index(), on="ecg_id", how="semi", maintain_order="left")
    for name, view in views.items():
        _copy(tested, view, _folder(out, name))
    write_json(out / "left_out.json", left_out)
    write_parquet(out / "test_set.parquet", tested.sort("ecg_id"))
    return TestSet(out)


def _copy(tested: pl.DataFrame, view: ArrayShards, out: Path) -> None:
    """Copy the examples of some ECGs of a view."""
    placed = view.index().join(tested.select("ecg_id"), on="ecg_id", how="semi", maintain_order="left")
    placed, attributes = placed.select("ecg_id", "shard", "row").sort("shard", "row"), view.attributes()
    index = [placed.clear()]
    for (shard,), rows in placed.group_by("shard", maintain_order=True):
        array = view.read(int(shard))[rows["row"].to_numpy()]  # type: ignore[call-overload]
        write_shard(out, int(shard), array, attributes=attributes)  # type: ignore[call-overload]
        index.append(rows.with_columns(row=pl.int_range(len(rows), dtype=pl.Int32)))
    write_index(out, pl.concat(index))


def _folder(folder: Path, view: str) -> Path:
    return folder / "views" / view
