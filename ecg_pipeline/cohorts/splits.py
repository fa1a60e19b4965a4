"""Train, validation and test split by patient, and the order of patients behind nested fractions.

A patient's split is a hash of the seed and the pseudonym. It is the same for every task and for pretraining, and does
not change when patients are added. (The paper shuffles each task's patients with scikit-learn's GroupShuffleSplit;
docs/decisions/004-split-by-hash.md says why this differs.)
"""

import hashlib
from dataclasses import dataclass
from math import ceil
from typing import Literal

import polars as pl

from ecg_pipeline.ecg import RecipeError

SPLITS = TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
VALIDATION_FOLD, TEST_FOLD = 9, 10
"""As PTB-XL's authors recommend: the labels of both folds were checked by a human."""


@dataclass(frozen=True)
class SplitRecipe:
    """Shares of all patients in the test and the validation split; the others are training patients.

    kind: `patient_hash`, or `ptb_xl_folds`, which uses PTB-XL's own fold for ECGs that have one.
    """

    kind: Literal["patient_hash", "ptb_xl_folds"] = "patient_hash"
    test: float = 0.2
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.test > 0 and self.validation > 0 and self.test + self.validation < 1):
            key = "validation" if 0 < self.test < 1 else "test"
            sentence = "test and validation must be above 0 and leave patients to train on"
            raise RecipeError(sentence, key, "validation", "test")


def unit_hash(patient: str, *, seed: int, purpose: str) -> float:
    """A hash in [0, 1) of a patient; hashes of other seeds or purposes are independent of it."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(patient: str, recipe: SplitRecipe) -> str:
    """The split of one patient: train, validation or test."""
    # The purpose is part of what is hashed: another word would give every patient another split.
    place = unit_hash(patient, seed=recipe.seed, purpose="part")
    if place < recipe.test:
        return TEST
    return VALIDATION if place < recipe.test + recipe.validation else TRAIN


def assign_splits(ecgs: pl.DataFrame, recipe: SplitRecipe) -> pl.Series:
    """The split of each ECG; null without a patient id. ecgs: columns patient, fold."""
    by_hash = {patient: split_of(patient, recipe) for patient in ecgs["patient"].drop_nulls().unique()}
    hashed = pl.col("patient").replace_strict(by_hash, default=None, return_dtype=pl.String)
    by_fold = (
        pl.when(pl.col("fold") == TEST_FOLD)
        .then(pl.lit(TEST))
        .when(pl.col("fold") == VALIDATION_FOLD)
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    use_folds = pl.col("fold").is_not_null() & pl.lit(recipe.kind == "ptb_xl_folds") & pl.col("patient").is_not_null()
    return ecgs.select(pl.when(use_folds).then(by_fold).otherwise(hashed).alias("split"))["split"]


def fraction_order(patients: pl.Series, recipe: SplitRecipe) -> dict[str, float]:
    """Place of each patient in (0, 1], by hash. A fraction f is the patients up to f, so fractions are nested."""
    places = {patient: unit_hash(patient, seed=recipe.seed, purpose="fraction") for patient in patients.unique()}
    ordered = sorted(places, key=places.__getitem__)
    return {patient: (place + 1) / len(ordered) for place, patient in enumerate(ordered)}


def last_place(fraction: float, patients: int) -> float:
    """The last place in the fraction order that belongs to a fraction f: ceil(f n) of n patients, divided by n."""
    return ceil(round(fraction * patients, 9)) / patients if patients else 0.0
