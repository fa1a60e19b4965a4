"""Who trains, who validates, who tests: a function of the patient, so that leakage has no place to happen.

A patient's part is a pure function of the split's seed and the pseudonym. It is the same for every task and for
pretraining, and it stays the same when other patients are added. (The paper shuffles each task's table of patients with
scikit-learn's GroupShuffleSplit; docs/decisions says why this differs.)
"""

import hashlib
from dataclasses import dataclass
from math import ceil
from typing import Literal

import polars as pl

from ecg_pipeline.ecg import RecipeError

TRAIN, VALIDATION, TEST, EXTERNAL = "train", "validation", "test", "external"
VALIDATION_FOLD, TEST_FOLD = 9, 10
"""PTB-XL's recommendation; both folds were checked by a human."""


@dataclass(frozen=True)
class SplitRecipe:
    """Shares of all patients that test and that validate; the others train.

    kind: `patient_hash`, or `ptb_xl_folds` for records with a fold of PTB-XL's own.
    """

    kind: Literal["patient_hash", "ptb_xl_folds"] = "patient_hash"
    test: float = 0.2
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if not (self.test > 0 and self.validation > 0 and self.test + self.validation < 1):
            key = "validation" if 0 < self.test < 1 else "test"
            sentence = "test and validation are shares above 0 that leave patients to train on"
            raise RecipeError(sentence, key, "validation", "test")


def unit_hash(seed: int, purpose: str, patient: str) -> float:
    """A number in [0, 1) that is fixed for a patient, and unrelated for another seed or purpose."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{patient}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def part_of(patient: str, split: SplitRecipe) -> str:
    """The part of one patient: train, validation or test."""
    place = unit_hash(split.seed, "part", patient)
    if place < split.test:
        return TEST
    return VALIDATION if place < split.test + split.validation else TRAIN


def parts(records: pl.DataFrame, split: SplitRecipe) -> pl.Series:
    """The part of each record (columns patient, fold). Without a patient it is null: it belongs to no part."""
    by_hash = {patient: part_of(patient, split) for patient in records["patient"].drop_nulls().unique()}
    hashed = pl.col("patient").replace_strict(by_hash, default=None, return_dtype=pl.String)
    by_fold = (
        pl.when(pl.col("fold") == TEST_FOLD)
        .then(pl.lit(TEST))
        .when(pl.col("fold") == VALIDATION_FOLD)
        .then(pl.lit(VALIDATION))
        .otherwise(pl.lit(TRAIN))
    )
    use_folds = pl.col("fold").is_not_null() & pl.lit(split.kind == "ptb_xl_folds") & pl.col("patient").is_not_null()
    return records.select(pl.when(use_folds).then(by_fold).otherwise(hashed).alias("part"))["part"]


def ranks(patients: pl.Series, split: SplitRecipe) -> dict[str, float]:
    """Place of each training patient in (0, 1]; a fraction f is the patients up to f, so fractions are nested."""
    ordered = sorted(patients.unique().to_list(), key=lambda patient: unit_hash(split.seed, "fraction", patient))
    return {patient: (place + 1) / len(ordered) for place, patient in enumerate(ordered)}


def up_to(fraction: float, patients: int) -> float:
    """The greatest rank inside a fraction: ceil(f n) of n patients."""
    return ceil(round(fraction * patients, 9)) / patients if patients else 0.0
