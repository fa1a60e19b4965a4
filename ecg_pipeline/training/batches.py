"""Batches of sheets in an order that is a function of seed and epoch, from parts read a few at a time.

Memory is a few parts, whatever the number of ECGs: parts are shuffled, a buffer of them is read, and its rows are
shuffled. So an epoch's order can be made again from nothing, which is what resuming a killed run needs.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.parts import ArrayParts

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
        rest: tuple[dict[str, NDArray], pl.DataFrame] | None = None
        for arrays, rows in self._buffers(rng):
            order = rng.permutation(len(rows))
            arrays, rows = {kind: array[order] for kind, array in arrays.items()}, rows[order]
            if rest is not None:
                arrays = {kind: np.concatenate([rest[0][kind], array]) for kind, array in arrays.items()}
                rows = pl.concat([rest[1], rows])
            for first in range(0, len(rows) - batch + 1, batch):
                chosen = slice(first, first + batch)
                yield {kind: array[chosen] for kind, array in arrays.items()}, rows[chosen]
                left -= 1
                if left == 0:
                    return
            used = len(rows) // batch * batch
            rest = ({kind: array[used:] for kind, array in arrays.items()}, rows[used:])

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
            arrays = {
                kind: np.concatenate([by_site[g["site"][0]].read(g["part"][0])[g["row"].to_numpy()] for g in chosen])
                for kind, by_site in self.arrays.items()
            }
            yield arrays, pl.concat(chosen).drop("part", "row")

    def _placed(self) -> pl.DataFrame:
        """The table with each record's part and row, in their order. A record without an array is a KeyError."""
        by_site = next(iter(self.arrays.values()))
        indices = [parts.index().with_columns(site=pl.lit(site)) for site, parts in by_site.items()]
        placed = self.table.join(pl.concat(indices), on=["record", "site"], how="left")
        if placed["part"].null_count():
            missing = placed.filter(pl.col("part").is_null())
            raise KeyError(f"{len(missing)} records have no image, the first is {missing['record'][0]}")
        return placed.sort("site", "part", "row")
