"""The ledger is a chain: whatever is changed in it is noticed, and several writers and a kill leave it whole."""

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.provenance.ledger import START, Head, Kind, Ledger
from ecg_pipeline.storage.files import sha256_bytes

MADE = (Kind.MADE, {"asset": "cohort", "partition": None, "record": "a" * 64})


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "provenance" / "ledger.jsonl")


def lines_of(ledger):
    return ledger.path.read_bytes().splitlines()


def test_an_empty_ledger_has_a_head(ledger):
    assert ledger.head() == Head(0, START)
    assert list(ledger.entries()) == list(ledger.problems()) == []


def test_entries_come_back_in_order_and_are_chained(ledger):
    ledger.append(MADE)
    head = ledger.append((Kind.CHECKED, {"asset": "cohort"}), MADE)
    entries = list(ledger.entries())
    assert [entry.kind for entry in entries] == [Kind.MADE, Kind.CHECKED, Kind.MADE]
    assert [entry.previous for entry in entries] == [START, entries[0].digest, entries[1].digest]
    assert head == ledger.head() == Head(3, sha256_bytes(lines_of(ledger)[-1]))
    assert [ledger.digest_at(number) for number in (0, 2, 4)] == [START, entries[1].digest, None]
    assert not list(ledger.problems())


@given(st.data())
def test_every_change_before_the_last_line_breaks_the_chain(tmp_path_factory, data):
    ledger = Ledger(tmp_path_factory.mktemp("home") / "ledger.jsonl")
    for number in range(5):
        ledger.append((Kind.MADE, {"asset": str(number)}))
    lines, at = lines_of(ledger), data.draw(st.integers(0, 3))
    match data.draw(st.sampled_from(["change", "take out", "put in", "swap"])):
        case "change":
            lines[at] = json.dumps({**json.loads(lines[at]), "at": "2020-01-01"}, separators=(",", ":")).encode()
        case "take out":
            del lines[at]
        case "put in":
            lines.insert(at, lines[at])
        case "swap":
            lines[at], lines[at + 1] = lines[at + 1], lines[at]
    ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))
    assert list(ledger.problems())


def test_a_line_that_is_no_entry_is_a_problem(ledger):
    ledger.append(MADE)
    with ledger.path.open("ab") as file:
        file.write(b'{"number": 2}\n')
    assert list(ledger.problems()) == ["entry 2 of the ledger is not an entry"]


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_what_a_killed_writer_left_of_a_line_is_cut_off(ledger, kept):
    ledger.append(MADE, MADE)
    whole = ledger.path.read_bytes()
    torn = whole.splitlines()[-1][:kept]
    ledger.path.write_bytes(whole + torn)
    assert [entry.number for entry in ledger.entries()] == [1, 2]
    ledger.append(MADE)
    assert ledger.path.read_bytes().startswith(whole)
    assert [entry.number for entry in ledger.entries()] == [1, 2, 3]
    assert not list(ledger.problems())


def test_several_processes_append_at_the_same_time(ledger):
    program = (
        "import sys; from pathlib import Path; from ecg_pipeline.provenance.ledger import Kind, Ledger\n"
        "for number in range(10): Ledger(Path(sys.argv[1])).append((Kind.MADE, {'number': number}))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", program, str(ledger.path)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert not list(ledger.problems())
    assert ledger.head().entries == 30


def test_long_lines_are_read_back(ledger):
    ledger.append((Kind.CHECKED, {"asset": "x" * 200_000}))
    ledger.append(MADE)
    assert ledger.head().entries == 2
    assert not list(ledger.problems())
