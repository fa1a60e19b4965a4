"""Words are taken out of databases, and out of the pages that deleted rows leave behind."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.storage import databases
from ecg_pipeline.storage.databases import DatabaseInUse, databases_below, erase_words

WORD = "f0a13b3425bbec2a"


def database(path, *cells, journal="delete"):
    with sqlite3.connect(path) as made:
        made.execute(f"PRAGMA journal_mode = {journal}")
        made.execute('CREATE TABLE "event logs" (id INTEGER PRIMARY KEY, "the event" TEXT, body BLOB)')
        made.executemany(
            'INSERT INTO "event logs" VALUES (?, ?, ?)', [(n, cell, cell.encode()) for n, cell in enumerate(cells)]
        )
    made.close()
    return path


def cells_of(path):
    with sqlite3.connect(path) as opened:
        return opened.execute('SELECT "the event", body FROM "event logs" ORDER BY id').fetchall()


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_words_are_replaced_and_deleted_rows_leave_nothing(tmp_path, journal):
    path = database(tmp_path / "a.db", f"seen {WORD} twice {WORD}", "nobody", WORD * 50, journal=journal)
    with sqlite3.connect(path) as opened:
        opened.execute('DELETE FROM "event logs" WHERE id = 2')
    opened.close()
    assert erase_words(path, [WORD], "gone") == 2
    assert cells_of(path) == [("seen gone twice gone", b"seen gone twice gone"), ("nobody", b"nobody")]
    for file in tmp_path.iterdir():
        assert WORD.encode() not in file.read_bytes()


@settings(deadline=None, max_examples=20)
@given(
    st.lists(st.text(alphabet="ab%_.*'\"", max_size=12), max_size=5),
    st.text(alphabet="ab%_.*'\"", min_size=1, max_size=3),
)
def test_the_words_are_taken_as_they_are(tmp_path_factory, cells, word):
    path = database(tmp_path_factory.mktemp("law") / "a.db", *cells)
    erase_words(path, [word], "x")
    assert [text for text, _ in cells_of(path)] == [cell.replace(word, "x") for cell in cells]


def test_no_words_change_nothing(tmp_path):
    path = database(tmp_path / "a.db", "one", "two")
    assert erase_words(path, [], "x") == 0
    assert [text for text, _ in cells_of(path)] == ["one", "two"]


def test_a_database_that_is_in_use_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(databases, "WAIT_S", 0.1)
    path = database(tmp_path / "a.db", WORD)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(DatabaseInUse, match=r"a\.db.*stop what has it open"):
        erase_words(path, [WORD], "x")
    other.close()


def test_databases_are_known_by_their_content(tmp_path):
    made = database(tmp_path / "run", "x")
    (tmp_path / "a.db").write_text("no database")
    assert list(databases_below(tmp_path)) == [made]
