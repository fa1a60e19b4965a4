"""A patient's part is a function of the patient: leakage has no place to happen."""

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts.splits import SplitRecipe, part_of, parts, ranks, up_to

patients = st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=40, unique=True)
SPLIT = SplitRecipe(test=0.3, validation=0.2, seed=5)


def records(names, folds=None):
    return pl.DataFrame(
        {"record": [f"r{n}" for n in range(len(names))], "patient": names, "fold": folds or [None] * len(names)},
        schema={"record": pl.String, "patient": pl.String, "fold": pl.Int32},
    )


@given(patients, patients)
def test_no_patient_moves_when_others_come(first, more):
    alone = dict(zip(first, parts(records(first), SPLIT), strict=True))
    together = dict(zip(first + more, parts(records(first + more), SPLIT), strict=True))
    assert all(together[patient] == part for patient, part in alone.items())


def test_parts_have_their_shares():
    drawn = [part_of(f"{n:032x}", SPLIT) for n in range(20_000)]
    assert drawn.count("test") / 20_000 == pytest.approx(0.3, abs=0.015)
    assert drawn.count("validation") / 20_000 == pytest.approx(0.2, abs=0.015)


def test_another_seed_is_another_split():
    names = [f"{n:032x}" for n in range(200)]
    other = SplitRecipe(test=0.3, validation=0.2, seed=6)
    assert [part_of(name, SPLIT) for name in names] != [part_of(name, other) for name in names]


@given(patients, st.lists(st.floats(0.01, 1), min_size=2, max_size=4))
def test_fractions_are_nested_and_never_empty(names, fractions):
    rank = ranks(pl.Series(names), SPLIT)
    chosen = [{n for n, r in rank.items() if r <= up_to(f, len(names)) + 1e-12} for f in sorted(fractions)]
    assert all(small <= large for small, large in itertools.pairwise(chosen))
    assert all(chosen)
    assert {n for n, r in rank.items() if r <= up_to(1.0, len(names)) + 1e-12} == set(names)


def test_an_ecg_without_a_patient_is_in_no_part():
    assert parts(records(["a", None]), SPLIT)[1] is None


def test_ptb_xls_own_folds():
    split = SplitRecipe(kind="ptb_xl_folds")
    assert parts(records(["a", "b", "c"], [1, 9, 10]), split).to_list() == ["train", "validation", "test"]


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match="leave patients to train on"):
        SplitRecipe(test=0.7, validation=0.3)
