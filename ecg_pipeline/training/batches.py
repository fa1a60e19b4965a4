"""Batches of sheets in an order that is a function of seed and epoch, from parts read a few at a time.

Memory is a few parts, whatever the number of ECGs: parts are shuffled, a buffer of them is read, and its rows are
shuffled. So an epoch's order can be made again from nothing, which is what resuming a killed run needs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.storage.shards import ArrayParts

BUFFER_PARTS = 8


@dataclass(frozen=True)
class Batches:
    """Rows of arrays that share their records, such as sheets and their tokens, with a table of what belongs to them.

    arrays: for each kind of array its parts by site. table: columns record, site, and whatever a batch needs.
    """

    arrays: Mapping[str, Mapping[str, ArrayParts]]
    table: pl.DataFrame

    def steps(self, batch: int) -> int:
        """Batches an epoch: the last one, if not full, is left out unless it is the only one."""
        return max(1, len(self.table) // batch)

    def epoch(self, batch: int, seed: int, epoch: int) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """The batches of one epoch: for each kind its array (B, ...), and the rows of the table."""
        rng = np.random.default_rng([seed, epoch])
        left, batch = self.steps(batch), min(batch, len(self.table))
        taken: list[tuple[dict[str, NDArray], pl.DataFrame]] = []
        for arrays, rows in self._buffers(rng):
            order = rng.permutation(len(rows))
            while len(order):
                wanted = batch - sum(len(rows) for _, rows in taken)
                chosen, order = order[:wanted], order[wanted:]
                taken.append(({kind: array[chosen] for kind, array in arrays.items()}, rows[chosen]))
                if len(chosen) < wanted:
                    continue
                yield _together(taken)
                taken = []
                left -= 1
                if left == 0:
                    return

    def in_order(self, batch: int) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """Every row once, part by part, in batches of at most `batch`."""
        for arrays, rows in self._buffers(None, parts=1):
            for first in range(0, len(rows), batch):
                chosen = slice(first, first + batch)
                yield {kind: array[chosen] for kind, array in arrays.items()}, rows[chosen]

    def _buffers(
        self, rng: np.random.Generator | None, parts: int = BUFFER_PARTS
    ) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """The wanted rows of a few parts at a time, decoded."""
        groups = self._placed().partition_by("site", "part", maintain_order=True)
        order = range(len(groups)) if rng is None else rng.permutation(len(groups))
        for first in range(0, len(groups), parts):
            chosen = [groups[number] for number in order[first : first + parts]]
            yield (
                {kind: _read(by_site, chosen) for kind, by_site in self.arrays.items()},
                pl.concat(chosen).drop("part", "row"),
            )

    def _placed(self) -> pl.DataFrame:
        """The table with each record's part and row, in their order. A record without an array is a KeyError."""
        by_site = next(iter(self.arrays.values()))
        indices = [parts.index().with_columns(site=pl.lit(site)) for site, parts in by_site.items()]
        placed = self.table.join(pl.concat(indices), on=["record", "site"], how="left")
        if placed["part"].null_count():
            missing = placed.filter(pl.col("part").is_null())
            raise KeyError(f"{len(missing)} records have no image, the first is {missing['record'][0]}")
        return placed.sort("site", "part", "row")


def _read(by_site: Mapping[str, ArrayParts], groups: Sequence[pl.DataFrame]) -> NDArray:
    """The rows of each group, which share a site and a part, one after the other. Memory is theirs and one part."""
    rows: NDArray = np.empty(0)
    first = 0
    for group in groups:
        part = by_site[group["site"][0]].read(group["part"][0])
        if not first:
            rows = np.empty((sum(map(len, groups)), *part.shape[1:]), part.dtype)
        # Every row is there; unless told to clip, NumPy would take them by way of a copy.
        np.take(part, group["row"].to_numpy(), axis=0, out=rows[first : first + len(group)], mode="clip")
        first += len(group)
    return rows


def _together(taken: Sequence[tuple[dict[str, NDArray], pl.DataFrame]]) -> tuple[dict[str, NDArray], pl.DataFrame]:
    if len(taken) == 1:
        return taken[0]
    arrays = {kind: np.concatenate([arrays[kind] for arrays, _ in taken]) for kind in taken[0][0]}
    return arrays, pl.concat([rows for _, rows in taken])
