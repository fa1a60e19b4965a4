"""SQLite files: taking words out of every table, and out of the pages that deleted rows leave behind."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path

MAGIC = b"SQLite format 3\0"

WAIT_S = 30.0
"""How long to wait for another process that writes the database."""


class DatabaseInUse(RuntimeError):  # noqa: N818
    """Another process keeps a database open and locked."""


def databases_below(folder: Path) -> Iterator[Path]:
    """Every SQLite file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(len(MAGIC)) == MAGIC:
                    yield path


def erase_words(path: Path, words: Iterable[str], by: str) -> int:
    """Replace words wherever they stand in a database, and write the file anew; return the number of changed cells.

    DatabaseInUse if another process has it locked.
    """
    found = re.compile("|".join(map(re.escape, sorted(words))) or r"(?!)")
    try:
        with closing(sqlite3.connect(path, timeout=WAIT_S, isolation_level=None)) as database:
            database.execute("PRAGMA secure_delete = ON")
            changed = sum(_erase_in(database, table, found, by) for table in _tables(database))
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            database.execute("VACUUM")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.OperationalError as error:
        raise DatabaseInUse(f"{path}: {error}; stop what has it open, such as `ecg-pipeline ui`") from None
    return changed


def _tables(database: sqlite3.Connection) -> list[str]:
    rows = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return [_quoted(name) for (name,) in rows]


def _erase_in(database: sqlite3.Connection, table: str, words: re.Pattern[str], by: str) -> int:
    columns = [_quoted(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
    changes = []
    for row in database.execute(f"SELECT rowid, {', '.join(columns)} FROM {table}"):  # noqa: S608
        for column, cell in zip(columns, row[1:], strict=True):
            if isinstance(cell, str) and words.search(cell):
                changes.append((column, words.sub(by, cell), row[0]))
            elif isinstance(cell, bytes) and words.search(cell.decode("latin-1")):
                changes.append((column, words.sub(by, cell.decode("latin-1")).encode("latin-1"), row[0]))
    for column, cell, rowid in changes:
        database.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (cell, rowid))  # noqa: S608
    return len(changes)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
