"""Shuffled batches from sharded arrays, with a buffer of a few shards in memory.

Each epoch shuffles the shards, reads `BUFFER_SHARDS` of them at a time, and shuffles their rows. The order is a
function of seed and epoch only, so a killed run can resume in the middle of an epoch without saved sampler state. What
was decoded stays in memory up to `KEPT_BYTES`, so a small data set is read once for all epochs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.storage.shards import ArrayShards

BUFFER_SHARDS = 8
"""Shards in memory at a time."""

KEPT_BYTES = 2**29
"""Decoded rows that a data set keeps between epochs, at most."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """A data set: a view, its targets if any, and a table with a row for each ECG.

    arrays: by name, the shards of each site; the first is the view. A view may hold several examples of an ECG, each of
    which is an example here. The others, the targets, have the rows of the view, or one row an ECG, in its shard.
    table: columns ecg_id, site, and any others, such as the label. per_ecg: only ECGs with so many examples are taken,
    and of those the first so many, which stand next to each other in every batch of an epoch. fixed_group: examples are
    divided once into groups of so many, which every epoch shuffles as wholes; None divides them anew in every epoch.
    """

    arrays: Mapping[str, Mapping[str, ArrayShards]]
    table: pl.DataFrame
    per_ecg: int | None = None
    fixed_group: int | None = None

    @property
    def examples(self) -> int:
        """Number of examples."""
        return len(self._located)

    def size(self, batch: int) -> int:
        """Number of examples in each batch: at most `batch` and at most all, and of each ECG all of `per_ecg`.

        A `batch` that is smaller than `per_ecg` is a ValueError.
        """
        together = self.per_ecg or 1
        if batch < together:
            raise ValueError(f"a batch of {batch} examples is smaller than the {together} examples of an ECG")
        return min(batch // together * together, self.examples)

    def steps(self, batch: int) -> int:
        """Number of batches per epoch. An incomplete last batch is dropped unless it is the only one."""
        return max(1, self.examples // max(1, self.size(batch)))

    def epoch(self, epoch: int, *, batch: int, seed: int) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """The shuffled batches of one epoch: arrays (B, ...) by name, and the B rows of the table."""
        left, size = self.steps(batch), self.size(batch)
        taken: list[tuple[dict[str, NDArray], pl.DataFrame]] = []
        for arrays, rows, order in self._ordered(epoch, seed):
            while len(order):
                wanted = size - sum(len(rows) for _, rows in taken)
                chosen, order = order[:wanted], order[wanted:]
                taken.append(({name: array[chosen] for name, array in arrays.items()}, rows[chosen]))
                if len(chosen) < wanted:
                    continue
                yield _concatenate(taken)
                taken = []
                left -= 1
                if left == 0:
                    return

    def in_order(self, batch: int) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """Every row once in stored order, not shuffled, in batches of at most `batch`."""
        for arrays, rows in self._buffers(None, shards=1):
            for first in range(0, len(rows), batch):
                chosen = slice(first, first + batch)
                yield {name: array[chosen] for name, array in arrays.items()}, rows[chosen]

    def _ordered(self, epoch: int, seed: int) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame, NDArray]]:
        """The rows of a few shards at a time, and their places in the order of an epoch."""
        if self.fixed_group is not None:
            yield from self._fixed_groups(epoch, seed, self.fixed_group)
            return
        rng = np.random.default_rng([seed, epoch])
        for arrays, rows in self._buffers(rng):
            yield arrays, rows, self._shuffled(rng, len(rows))

    def _fixed_groups(
        self, epoch: int, seed: int, group: int
    ) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame, NDArray]]:
        """The same groups in every epoch, in another order; rows that fill no group come last."""
        members, rng = np.random.default_rng(seed), np.random.default_rng([seed, epoch])
        left: list[tuple[dict[str, NDArray], pl.DataFrame]] = []
        for arrays, rows in self._buffers(members):
            order = self._shuffled(members, len(rows))
            left.append(({name: array[order] for name, array in arrays.items()}, rows[order]))
            arrays, rows = _concatenate(left)
            groups = len(rows) // group
            yield arrays, rows, (rng.permutation(groups)[:, None] * group + np.arange(group)).reshape(-1)
            left = [({name: array[groups * group :] for name, array in arrays.items()}, rows[groups * group :])]
        for arrays, rows in left:
            yield arrays, rows, np.arange(len(rows))

    def _buffers(
        self, rng: np.random.Generator | None, shards: int = BUFFER_SHARDS
    ) -> Iterator[tuple[dict[str, NDArray], pl.DataFrame]]:
        """The table's rows, decoded a few shards at a time; shards in random order if there is a generator."""
        groups = self._located.partition_by("site", "shard", maintain_order=True)
        order = range(len(groups)) if rng is None else rng.permutation(len(groups))
        for first in range(0, len(groups), shards):
            chosen = [groups[number] for number in order[first : first + shards]]
            yield (
                {name: self._read(chosen, name) for name in self.arrays},
                pl.concat(chosen).drop("shard", *self.arrays),
            )

    def _read(self, groups: Sequence[pl.DataFrame], name: str) -> NDArray:
        """The rows of several groups as one array of its own; each group is of one site and shard. Holds one more shard
        in memory.

        name: of the array, and of the column with the rows.
        """
        rows: NDArray = np.empty(0)
        first = 0
        for group in groups:
            site, number = group["site"][0], group["shard"][0]
            kept = self._kept.get((name, site, number))
            shard = self.arrays[name][site].read(number) if kept is None else kept
            if not first:
                rows = np.empty((sum(map(len, groups)), *shard.shape[1:]), shard.dtype)
            found = rows[first : first + len(group)]
            if kept is None:
                # With mode="raise", the default, `np.take` would write to a buffer first and copy it to `out`.
                np.take(shard, group[name].to_numpy(), axis=0, out=found, mode="clip")
                if found.nbytes + sum(array.nbytes for array in self._kept.values()) <= KEPT_BYTES:
                    self._kept[name, site, number] = found.copy()
            else:
                found[:] = kept
            first += len(group)
        return rows

    @cached_property
    def _kept(self) -> dict[tuple[str, str, int], NDArray]:
        """The rows of a group that were decoded before, by array, site and shard."""
        return {}

    def _shuffled(self, rng: np.random.Generator, rows: int) -> NDArray:
        """A random order of rows; those of an ECG stay together if `per_ecg` is set."""
        together = self.per_ecg or 1
        return (rng.permutation(rows // together)[:, None] * together + np.arange(together)).reshape(-1)

    @cached_property
    def _located(self) -> pl.DataFrame:
        """A row an example: its shard, and under each array's name its row there, sorted by shard and row of the view.

        An ECG without an example, or without a row of a target, is a KeyError.
        """
        (view, by_site), *targets = self.arrays.items()
        located = _joined(self.table, _indices(by_site), view).sort("site", "shard", view)
        place = pl.int_range(pl.len()).over("site", "ecg_id")
        located = located.with_columns(place=place)
        if self.per_ecg is not None:
            in_shard = pl.len().over("site", "shard", "ecg_id")
            located = located.filter((in_shard >= self.per_ecg) & (pl.col("place") < self.per_ecg))
        for name, shards in targets:
            rows = _indices(shards)
            if rows.select("site", "ecg_id").is_duplicated().any():
                rows = rows.sort("site", "shard", "row").with_columns(place=place)
            located = _joined(located, rows, name)
        return located.drop("place")


def in_view(table: pl.DataFrame, view: Mapping[str, ArrayShards]) -> pl.DataFrame:
    """The rows of a table (columns ecg_id, site) whose ECG has an example in a view. view: by site."""
    return table.join(_indices(view), on=["ecg_id", "site"], how="semi", maintain_order="left")


def _joined(table: pl.DataFrame, rows: pl.DataFrame, name: str) -> pl.DataFrame:
    """The table with the rows of its ECGs as the column `name`. An ECG without a row is a KeyError."""
    on = [column for column in rows.columns if column in table.columns]
    joined = table.join(rows.rename({"row": name}), on=on, how="left", maintain_order="left")
    missing = joined.filter(pl.col(name).is_null())
    if not missing.is_empty():
        raise KeyError(f"{len(missing)} ECGs are in no shard, the first is {missing['ecg_id'][0]}")
    return joined


def _indices(view: Mapping[str, ArrayShards]) -> pl.DataFrame:
    """Columns ecg_id, shard, row and site of all examples of a view."""
    return pl.concat(
        [shards.index().select("ecg_id", "shard", "row", site=pl.lit(site)) for site, shards in view.items()]
    )


def _concatenate(taken: Sequence[tuple[dict[str, NDArray], pl.DataFrame]]) -> tuple[dict[str, NDArray], pl.DataFrame]:
    if len(taken) == 1:
        return taken[0]
    arrays = {name: np.concatenate([arrays[name] for arrays, _ in taken]) for name in taken[0][0]}
    return arrays, pl.concat([rows for _, rows in taken])
