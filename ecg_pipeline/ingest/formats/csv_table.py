"""A data set's own CSV table, read once a process, with its rows by an identifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import polars as pl


@dataclass(frozen=True)
class CsvTable:
    """The columns of a table that are needed, as texts, and the place of each row by its identifier."""

    table: pl.DataFrame
    places: Mapping[str, int]

    def row(self, identifier: str) -> Mapping[str, str | None]:
        """The row of an identifier; empty if there is none."""
        place = self.places.get(identifier)
        return {} if place is None else self.table.row(place, named=True)


def csv_table(path: Path, *, key: str, required: Sequence[str], optional: Sequence[str] = ()) -> CsvTable:
    """A table by its column `key`, which is required, too; the last row counts where an identifier repeats.

    Rows and bytes that are malformed do not end it. A missing table is a FileNotFoundError, a missing column a
    ValueError, and both name what is missing. The table is kept in memory until it changes on disk.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: the data set's files are read together with this table") from None
    return _read(path, key, tuple(required), tuple(optional), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(
    path: Path, key: str, required: tuple[str, ...], optional: tuple[str, ...], size: int, mtime_ns: int
) -> CsvTable:
    """Size and time of change are part of the cache's key, so that a table that changes is read again."""
    try:
        table = pl.read_csv(
            path, infer_schema=False, encoding="utf8-lossy", truncate_ragged_lines=True, ignore_errors=True
        )
    except pl.exceptions.NoDataError:
        table = pl.DataFrame()
    except (pl.exceptions.ComputeError, pl.exceptions.DuplicateError) as error:
        raise ValueError(f"{path}: not a CSV table ({type(error).__name__})") from None
    if missing := [column for column in (key, *required) if column not in table.columns]:
        raise ValueError(f"{path}: no column {', '.join(missing)}; is this the data set's table?")
    columns = dict.fromkeys((key, *required, *(column for column in optional if column in table.columns)))
    table = table.select(pl.col(list(columns)).str.strip_chars()).filter(pl.col(key).str.len_chars() > 0)
    return CsvTable(table, {identifier: place for place, identifier in enumerate(table[key])})
