"""Arrays in parts: a Zarr v3 group that holds one array, one shard, a part.

A part is the unit of work, of ownership and of resumption: up to 1,024 consecutive ECGs of a site, fixed when the
waveform store is made and kept through filtering, rendering and tokenising. One process writes a part, under a
temporary name that is renamed when whole, so no shard ever has two writers and a killed stage goes on at its first
missing part. `index.parquet` beside the group says which record stands where.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, BloscShuffle

from ecg_pipeline.storage.files import (
    digest_json,
    folder_digests,
    link_or_copy,
    temporary_beside,
    write_json,
    write_parquet,
    write_text,
)

CODEC = BloscCodec(cname="lz4", clevel=5, shuffle=BloscShuffle.shuffle)
"""By measurement (docs/performance.md): a fifth of Zstandard's time to write, a third to read."""

NOTES = ".made_of"
"""Folder of the notes that say what each part was made of."""

DECODER = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
"""Decodes straight into the array that is read, in half of zarr-python's time. Only zarr-python writes: the order of
chunks within a shard is then the same every time.
"""

CHUNK = 64
"""Rows compressed together: a part is read as a whole, and Zarr takes its time for each chunk."""

CHUNK_BYTES = 2**30
"""Blosc compresses no more than 2 GB at once, which long recordings would pass: they have fewer rows a chunk."""


def part_name(part: int) -> str:
    """Name of a part's array inside its group, ordered as the parts are."""
    return f"part_{part:05d}"


def open_group(path: Path) -> None:
    """Make `path` a Zarr v3 group. Writing it again changes nothing."""
    if not (path / "zarr.json").exists():
        write_json(path / "zarr.json", {"zarr_format": 3, "node_type": "group", "attributes": {}})


def write_array(path: Path, array: NDArray, attributes: dict | None = None) -> None:
    """Write `array` as one sharded Zarr v3 array at `path`, whole or not at all."""
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
        attributes=attributes or {},
        zarr_format=3,
    )
    target[:] = array
    shutil.rmtree(path, ignore_errors=True)
    temporary.replace(path)


def read_array(path: Path) -> zarr.Array:
    """Open the Zarr array at `path` for reading."""
    with zarr.config.set(DECODER):
        array = zarr.open_array(str(path), mode="r")
    assert isinstance(array, zarr.Array)
    return array


def stands(part: int, made_of: str, out: Path, before: Path | None, folders: Sequence[str]) -> bool:
    """Whether `out` holds this part, whole and made of the same. If only `before` does, it is linked into `out` first.

    made_of: a digest of all that this part depends on, kept beside it. before: the folder of an earlier whole output of
    the same code. folders: where a part's files may lie, below either folder; `zarr.json` in the last is written last.
    """
    name = part_name(part)
    note, last = Path(NOTES, name), Path(folders[-1], name, "zarr.json")

    def holds(folder: Path) -> bool:
        return (folder / last).exists() and (folder / note).exists() and (folder / note).read_text() == made_of

    if holds(out):
        return True
    (out / note).unlink(missing_ok=True)
    for folder in folders:
        shutil.rmtree(out / folder / name, ignore_errors=True)
    write_text(out / note, made_of)
    if before is None or not holds(before):
        return False
    for folder in folders:
        if not (before / folder / name).exists():
            continue
        temporary = temporary_beside(out / folder / name)
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.copytree(before / folder / name, temporary, copy_function=link_or_copy)
        temporary.replace(out / folder / name)
    return True


def forget_made_of(part: int, out: Path) -> None:
    """Have this part stand for nothing: the next time that it is asked for, here or by a later output, it is made."""
    (out / NOTES / part_name(part)).unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Take away what killed processes had begun to write into an output of parts."""
    for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


@dataclass(frozen=True)
class ArrayParts:
    """One row a record over the parts of one Zarr group, with the index that says which record stands where.

    Files: `arrays.zarr/part_00000 ...` and `index.parquet` with columns record (str), part (i32), row (i32).
    """

    folder: Path

    def scan(self) -> pl.LazyFrame:
        """Columns record, part, row, ordered by part and row."""
        return pl.scan_parquet(self.folder / "index.parquet")

    def index(self) -> pl.DataFrame:
        """All of `scan()`."""
        return self.scan().collect()

    def parts(self) -> list[int]:
        """Numbers of the parts that hold at least one record."""
        return parts_in(self.scan())

    def read(self, part: int) -> NDArray:
        """All rows of one part, in index order."""
        return np.asarray(read_array(self.folder / "arrays.zarr" / part_name(part))[:])

    def digest(self, part: int) -> str:
        """Digest of what stands on disk of one part."""
        return digest_json(folder_digests(self.folder / "arrays.zarr" / part_name(part)))

    def read_records(self, records: Sequence[str]) -> NDArray:
        """The rows of `records`, in that order. An unknown record is a KeyError."""
        wanted = pl.DataFrame({"record": list(records)}, schema={"record": pl.String}).with_row_index("place")
        found = wanted.join(self.index(), on="record", how="left", maintain_order="left")
        missing = found.filter(pl.col("part").is_null())
        if len(missing):
            raise KeyError(f"{len(missing)} records are not in {self.folder}, the first is {missing['record'][0]}")
        rows: list[NDArray] = [np.empty(0)] * len(found)
        for (part,), group in found.group_by("part"):
            array = self.read(int(part))  # type: ignore[call-overload]
            for place, row in group.select("place", "row").iter_rows():
                rows[place] = array[row]
        return np.stack(rows)

    def __len__(self) -> int:
        return self.scan().select(pl.len()).collect().item()

    def __iter__(self) -> Iterator[tuple[pl.DataFrame, NDArray]]:
        """Part by part: its index rows and its array. Memory is one part."""
        for part in self.parts():
            yield self.scan().filter(pl.col("part") == part).collect(), self.read(part)


def parts_in(table: pl.LazyFrame) -> list[int]:
    """The numbers in the column `part`, each once, in order."""
    return table.select(pl.col("part").unique().sort()).collect(engine="streaming")["part"].to_list()


def part_table(folder: Path, part: int, table: str) -> Path:
    """File of a table that belongs to a part, beside the arrays of `folder`."""
    return folder / "parts" / part_name(part) / f"{table}.parquet"


def scan_tables(folder: Path, table: str, parts: Iterable[int], schema: Mapping[str, Any]) -> pl.LazyFrame:
    """The tables of that name of these parts, one below the other, read as they are needed."""
    paths = [part_table(folder, part, table) for part in parts]
    return pl.scan_parquet(paths) if paths else pl.LazyFrame(schema=schema)


class PartsWriter:
    """Fills an `ArrayParts` folder. Parts that already stand are kept, so a stage goes on where it stopped.

    before: an earlier output of the same code; parts that are made of the same are taken over from it.
    """

    def __init__(self, folder: Path, before: Path | None = None):
        self.folder = folder
        self.before = before
        open_group(folder / "arrays.zarr")

    def stands(self, part: int, made_of: str) -> bool:
        """Whether this part is whole, and made of what this digest says; what else stood in its place is gone."""
        return stands(part, made_of, self.folder, self.before, ["parts", "arrays.zarr"])

    def write(self, part: int, array: NDArray, attributes: dict | None = None) -> None:
        """Write one part, whole or not at all. array: (n, ...), one row a record."""
        write_array(self.folder / "arrays.zarr" / part_name(part), array, attributes)

    def finish(self, index: pl.DataFrame | pl.LazyFrame) -> None:
        """Write the index (columns record, part, row): the parts are complete."""
        clear_leftovers(self.folder)
        write_parquet(self.folder / "index.parquet", index.select("record", "part", "row"))
