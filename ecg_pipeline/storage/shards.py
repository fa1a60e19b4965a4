"""Sharded arrays: a Zarr v3 group with one array per shard, itself stored as one Zarr shard.

A shard is the unit of work and of resumption: up to 1,024 consecutive ECGs of a site, fixed when the waveform store is
made and the same in every output computed from it. One process writes a shard, under a temporary name that is renamed
when it is complete, so a killed stage resumes at its first missing shard. `index.parquet` beside the group locates each
ECG.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import (
    digest_json,
    folder_digests,
    link_or_copy,
    temporary_beside,
    write_json,
    write_parquet,
    write_text,
)
from ecg_pipeline.storage.parallel import run_parallel

CODEC = BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.shuffle)
"""Compression. Compared with Zstandard: a fifth of the time to write, a third to read (docs/performance.md)."""

INPUT_DIGESTS = ".input_digests"
"""Folder with the digest of each shard's input."""

TABLES, ARRAYS = "tables", "arrays.zarr"
"""Folders of an output: the tables of each shard, and the Zarr group of its arrays."""

INDEX_SCHEMA = {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}
"""Columns that say where an ECG's row is."""

DECODER = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
"""Zarr setting for reading: this decoder writes straight into the target array and takes half of zarr-python's time.
Arrays are written by zarr-python, whose order of chunks within a shard is deterministic.
"""

CHUNK = 64
"""Rows of a Zarr chunk. Shards are read as a whole, and each chunk has an overhead."""

CHUNK_BYTES = 2**30
"""Largest size of a chunk; Blosc's limit is 2 GB. Long recordings have fewer rows in a chunk."""


def shard_name(shard: int) -> str:
    """Name of a shard's array in its group; names sort as the shards do."""
    return f"shard_{shard:05d}"


def ensure_group(path: Path) -> None:
    """Create a Zarr v3 group at `path` unless there is one."""
    if not (path / "zarr.json").exists():
        write_json(path / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {}})


def write_array(path: Path, array: NDArray, attributes: Mapping[str, Any] | None = None) -> None:
    """Write `array` atomically as one sharded Zarr v3 array at `path`."""
    temporary = temporary_beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    chunk = max(1, min(CHUNK, len(array), CHUNK_BYTES // max(1, array[:1].nbytes)))
    rows = -(-max(1, len(array)) // chunk) * chunk
    target = zarr.create_array(
        store=str(temporary),
        shape=array.shape,
        dtype=array.dtype,
        chunks=(chunk, *array.shape[1:]),
        shards=(rows, *array.shape[1:]),
        compressors=CODEC,
        attributes=dict(attributes or {}),
        zarr_format=3,
    )
    target[:] = array
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)


def open_array(path: Path) -> zarr.Array:
    """Open the Zarr array at `path` for reading."""
    with zarr.config.set(DECODER):
        array = zarr.open_array(str(path), mode="r")
    assert isinstance(array, zarr.Array)
    return array


def ensure_shard(
    shard: int,
    input_digest: str,
    write: Callable[[], object],
    *,
    out: Path,
    previous: Path | None,
    folders: Sequence[str],
) -> None:
    """Make one shard of an output unless it exists: link it from an earlier output of the same input, or call `write`.

    input_digest: digest of everything that the shard depends on, stored in `out`; a shard with another digest is made
    again. previous: folder of an earlier, complete output of the same code. folders: folders of a shard's files below
    `out` and `previous`; `write` must write `zarr.json` in the last of them last: it marks the shard as complete.
    """
    name = shard_name(shard)
    digest_file, last = Path(INPUT_DIGESTS, name), Path(folders[-1], name, "zarr.json")

    def has_shard(folder: Path) -> bool:
        return (folder / last).exists() and stored_input(shard, folder) == input_digest

    if has_shard(out):
        return
    (out / digest_file).unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(out / folder / name, ignore_errors=True)
    write_text(out / digest_file, input_digest)
    if previous is None or not has_shard(previous):
        write()
        return
    for folder in folders:
        if not (previous / folder / name).exists():
            continue
        temporary = temporary_beside(out / folder / name)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(previous / folder / name, temporary, copy_function=link_or_copy)
        temporary.replace(out / folder / name)


def stored_input(shard: int, folder: Path) -> str | None:
    """The input digest of a shard of an output; None if there is none."""
    path = folder / INPUT_DIGESTS / shard_name(shard)
    return path.read_text() if path.exists() else None


def note_input(shard: int, out: Path, input_digest: str) -> None:
    """Replace the input digest of a shard by one that was known only once its input was read."""
    write_text(out / INPUT_DIGESTS / shard_name(shard), input_digest)


def forget_input(shard: int, out: Path) -> None:
    """Delete the input digest of a shard, so that the next build makes it again and no later output reuses it."""
    (out / INPUT_DIGESTS / shard_name(shard)).unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Delete temporary files that killed processes left in an output of shards."""
    for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@dataclass(frozen=True)
class ArrayShards:
    """Arrays of a site with one row per example, in shards, with an index.

    An ECG is one example, or several: then several rows of the index have its ecg_id, in the order of the examples.
    Files: `arrays.zarr/shard_00000 ...`, and `index.parquet` with the columns ecg_id (str), shard (i32), row (i32), and
    those that a view adds.
    """

    folder: Path

    def scan(self) -> pl.LazyFrame:
        """Columns ecg_id, shard, row, and those that a view adds, ordered by shard and row."""
        return pl.scan_parquet(self.folder / "index.parquet")

    def index(self) -> pl.DataFrame:
        """All of `scan()`."""
        return self.scan().collect()

    def shards(self) -> list[int]:
        """Numbers of the shards that hold at least one ECG."""
        return shards_in(self.scan())

    def read(self, shard: int) -> NDArray:
        """All rows of one shard, in index order."""
        return np.asarray(open_array(self.folder / ARRAYS / shard_name(shard))[:])

    def digest(self, shard: int) -> str:
        """Digest of the files of one shard's array."""
        return digest_json(folder_digests(self.folder / ARRAYS / shard_name(shard)))

    def attributes(self) -> dict[str, Any]:
        """Attributes of the first shard's Zarr array, which all shards share; empty if there is no shard."""
        return next((dict(open_array(self.folder / ARRAYS / shard_name(one)).attrs) for one in self.shards()), {})

    def read_ecgs(self, ecg_ids: Sequence[str]) -> NDArray:
        """The first example of each of these ECGs, in this order. An unknown ECG is a KeyError."""
        return np.stack([examples[0] for examples in self.read_examples(ecg_ids)])

    def read_examples(self, ecg_ids: Sequence[str]) -> list[NDArray]:
        """All examples (n, ...) of each of these ECGs, in this order. An unknown ECG is a KeyError."""
        index = self.scan().filter(pl.col("ecg_id").is_in(list(ecg_ids))).collect()
        found: dict[str, list[NDArray]] = {ecg_id: [] for ecg_id in ecg_ids}
        for (shard,), group in index.group_by("shard", maintain_order=True):
            array = self.read(int(shard))  # type: ignore[call-overload]
            for ecg_id, row in group.select("ecg_id", "row").iter_rows():
                found[ecg_id].append(array[row])
        missing = [ecg_id for ecg_id, examples in found.items() if not examples]
        if missing:
            raise KeyError(f"{len(missing)} ECGs are not in {self.folder}, the first is {missing[0]}")
        return [np.stack(found[ecg_id]) for ecg_id in ecg_ids]

    def __len__(self) -> int:
        return self.scan().select(pl.len()).collect().item()

    def __iter__(self) -> Iterator[tuple[pl.DataFrame, NDArray]]:
        """Index rows and array of each shard; one shard is in memory at a time."""
        for shard in self.shards():
            yield self.scan().filter(pl.col("shard") == shard).collect(), self.read(shard)


def shards_in(table: pl.LazyFrame) -> list[int]:
    """The distinct values of the column `shard`, sorted."""
    return table.select(pl.col("shard").unique().sort()).collect(engine="streaming")["shard"].to_list()


def shard_table(folder: Path, shard: int, table: str) -> Path:
    """File of one of a shard's tables in an output `folder`."""
    return folder / TABLES / shard_name(shard) / f"{table}.parquet"


def scan_tables(folder: Path, table: str, *, shards: Iterable[int], schema: Mapping[str, Any]) -> pl.LazyFrame:
    """A table of several shards, concatenated lazily. schema: of the result if there are no shards."""
    paths = [shard_table(folder, shard, table) for shard in shards]
    return pl.scan_parquet(paths) if paths else pl.LazyFrame(schema=schema)


class Sharded(Protocol):
    """An output in shards, from which another one is computed shard by shard."""

    def shards(self) -> list[int]:
        """Numbers of the shards that hold at least one ECG."""
        ...


@dataclass(frozen=True, eq=False)
class Shard:
    """Content of one shard. array: (n, ...), one row per example. attributes: of the Zarr array. tables: by name."""

    array: NDArray
    attributes: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, pl.DataFrame] = field(default_factory=dict)


def build_shards(
    source: Sharded,
    *,
    out: Path,
    work: Callable[[int], Shard],
    input_digest: Callable[[int], str],
    previous: Path | None = None,
    workers: int = 1,
    progress: Progress = no_progress,
) -> None:
    """Compute a shard of `out` for every shard of `source`, unless it exists (see `ensure_shard`). Then call
    `write_index`.

    work: computes one shard. input_digest: digest of everything that a shard depends on. Both must be picklable if
    there are several workers. previous: an earlier output of the same code, from which shards may be linked.
    """
    run_parallel(
        partial(_build_shard, out=out, work=work, input_digest=input_digest, previous=previous),
        source.shards(),
        workers=workers,
        progress=progress,
    )


def _build_shard(
    shard: int, *, out: Path, work: Callable[[int], Shard], input_digest: Callable[[int], str], previous: Path | None
) -> None:
    def write() -> None:
        content = work(shard)
        for name, table in content.tables.items():
            write_parquet(shard_table(out, shard, name), table)
        write_shard(out, shard, content.array, attributes=content.attributes)

    ensure_shard(shard, input_digest(shard), write, out=out, previous=previous, folders=[TABLES, ARRAYS])


def write_shard(folder: Path, shard: int, array: NDArray, *, attributes: Mapping[str, Any] | None = None) -> None:
    """Write one shard of an `ArrayShards` folder atomically. array: (n, ...), one row per example."""
    ensure_group(folder / ARRAYS)
    write_array(folder / ARRAYS / shard_name(shard), array, attributes)


def write_index(folder: Path, index: pl.DataFrame | pl.LazyFrame, columns: Sequence[str] = ()) -> None:
    """Write the index (columns ecg_id, shard, row, and the named ones) of an `ArrayShards` folder, after its shards."""
    ensure_group(folder / ARRAYS)
    clear_leftovers(folder)
    write_parquet(folder / "index.parquet", index.select("ecg_id", "shard", "row", *columns))
