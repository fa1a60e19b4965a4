"""A patient's split is a function of the patient: leakage has no place to happen."""

import itertools

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.cohorts.splits import SplitRecipe, assign_splits, fraction_order, last_place, split_of

patients = st.lists(st.text("0123456789abcdef", min_size=8, max_size=8), min_size=1, max_size=40, unique=True)
SPLIT = SplitRecipe(test=0.3, validation=0.2, seed=5)


def ecgs(names, folds=None):
    return pl.DataFrame(
        {"ecg_id": [f"r{n}" for n in range(len(names))], "patient": names, "fold": folds or [None] * len(names)},
        schema={"ecg_id": pl.String, "patient": pl.String, "fold": pl.Int32},
    )


@given(patients, patients)
def test_no_patient_moves_when_others_come(first, more):
    alone = dict(zip(first, assign_splits(ecgs(first), SPLIT), strict=True))
    together = dict(zip(first + more, assign_splits(ecgs(first + more), SPLIT), strict=True))
    assert all(together[patient] == split for patient, split in alone.items())


def test_splits_have_their_shares():
    splits = [split_of(f"{n:032x}", SPLIT) for n in range(20_000)]
    assert splits.count("test") / 20_000 == pytest.approx(0.3, abs=0.015)
    assert splits.count("validation") / 20_000 == pytest.approx(0.2, abs=0.015)


def test_another_seed_is_another_split():
    names = [f"{n:032x}" for n in range(200)]
    other = SplitRecipe(test=0.3, validation=0.2, seed=6)
    assert [split_of(name, SPLIT) for name in names] != [split_of(name, other) for name in names]


@given(patients, st.lists(st.floats(0.01, 1), min_size=2, max_size=4))
def test_fractions_are_nested_and_never_empty(names, fractions):
    order = fraction_order(pl.Series(names), SPLIT)
    chosen = [{n for n, r in order.items() if r <= last_place(f, len(names)) + 1e-12} for f in sorted(fractions)]
    assert all(small <= large for small, large in itertools.pairwise(chosen))
    assert all(chosen)
    assert {n for n, r in order.items() if r <= last_place(1.0, len(names)) + 1e-12} == set(names)


def test_an_ecg_without_a_patient_is_in_no_split():
    assert assign_splits(ecgs(["a", None]), SPLIT)[1] is None


def test_ptb_xls_own_folds():
    split = SplitRecipe(kind="ptb_xl_folds")
    assert assign_splits(ecgs(["a", "b", "c"], [1, 9, 10]), split).to_list() == ["train", "validation", "test"]


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match="leave patients to train on"):
        SplitRecipe(test=0.7, validation=0.3)
