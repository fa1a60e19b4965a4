"""The split of HeartBEiT's released code (paper: Fine-tuning).

The pipeline splits in another way (docs/decisions/004-split-by-hash.md). Here there is no validation split, so epochs
are chosen on the test set; a fraction is one of ECGs, not of patients, so a small one still has many patients; a
patient of the external hospital may be a training patient of another site; and splits change when a patient is added
or an identifier is written differently, because patients are shuffled in the order of their identifiers.
"""

import numpy as np
import polars as pl
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from ecg_pipeline.cohorts.splits import EXTERNAL, TEST, TRAIN

EXTERNAL_SITE = "ST.LUKE'S-ROOSEVELT HOSPITAL (S)"
SEED = 42


def official_splits(table: pl.DataFrame, external: str = EXTERNAL_SITE) -> pl.Series:
    """The split of each ECG (columns patient, site): train, test (a fifth of the patients), or external by its site."""
    splits = np.full(len(table), EXTERNAL, dtype=object)
    internal = np.flatnonzero(table["site"].to_numpy() != external)
    patients = table["patient"].to_numpy()[internal]
    train, test = next(GroupShuffleSplit(n_splits=1, random_state=SEED).split(internal, groups=patients))
    splits[internal[train]], splits[internal[test]] = TRAIN, TEST
    return pl.Series("split", splits.tolist())


def official_fraction(train: pl.DataFrame, fraction: float) -> pl.DataFrame:
    """A share of the training ECGs (column label), as many of each label as in the whole, in shuffled order."""
    if fraction == 1:
        return train
    labels = train["label"].to_numpy()
    rows, _ = train_test_split(np.arange(len(train)), train_size=fraction, stratify=labels, random_state=SEED)
    return train[rows]
