"""Ratios are of equal work, in turn; the command lists what it can compare."""

import json
from itertools import cycle

import pytest
from typer.testing import CliRunner

from ecg_pipeline.bench.compare import PAIRS, Row, compare
from ecg_pipeline.bench.rows import ROWS
from ecg_pipeline.cli import app

ROW = Row("walk", "a walk", 2.4, 2, 3, 10, False, "times as far")


class Work:
    """A clock that only work moves, and the order in which the work was done."""

    def __init__(self):
        self.now_s, self.done = 0.0, []

    def takes(self, name, *seconds):
        durations = cycle(seconds)

        def call():
            self.done.append(name)
            self.now_s += next(durations)

        return call


def test_a_ratio_is_the_median_of_pairs_that_took_turns():
    work = Work()
    ours, theirs = work.takes("ours", 1), work.takes("theirs", 100, 3, 4, 5, 6, 20)
    row = compare("a", against="b", ours=ours, theirs=theirs, target=10, unit="times", work=2, clock=lambda: work.now_s)
    assert work.done == ["ours", "theirs"] * (PAIRS + 1)
    assert (row.ratio, row.low, row.high, row.met) == (10, 6, 40, True)


def test_a_missed_target_is_said():
    work = Work()
    ours, theirs = work.takes("a", 2), work.takes("b", 2)
    row = compare("a", against="b", ours=ours, theirs=theirs, target=1.5, unit="times", clock=lambda: work.now_s)
    assert (row.ratio, row.met) == (1, False)


def test_an_unknown_name_lists_the_known():
    result = CliRunner().invoke(app, ["bench", "walk"])
    assert result.exit_code == 2
    assert f"no comparison walk; there are {', '.join(ROWS)}" in " ".join(result.output.split())


@pytest.fixture
def walk(monkeypatch):
    monkeypatch.setitem(ROWS, "walk", lambda: [ROW])  # pyright: ignore[reportArgumentType]


@pytest.mark.usefixtures("walk")
def test_rows_are_printed_or_written(tmp_path):
    printed = CliRunner().invoke(app, ["bench", "walk"]).output
    assert all(word in printed for word in ("walk", "2.4", "2.0", "3.0", "10", "no"))
    assert CliRunner().invoke(app, ["bench", "walk", "--json", str(tmp_path / "rows.json")]).exit_code == 0
    assert [Row(**row) for row in json.loads((tmp_path / "rows.json").read_text())] == [ROW]
