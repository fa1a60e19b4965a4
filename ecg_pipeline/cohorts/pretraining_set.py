"""The training set of pretraining, stored beside the weights, so that tested ECGs can be compared with it."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import polars as pl

from ecg_pipeline.cohorts.splits import TEST, TRAIN, VALIDATION, SplitRecipe, assign_splits
from ecg_pipeline.storage.files import link_or_copy, read_json, write_atomically, write_json, write_parquet

COLUMNS = ("ecg_id", "site", "patient", "waveform_sha256")
FILE = "pretrained_on.parquet"

TOKENIZER = Path("tokenizer")
"""Subfolder of a pretrained network with the training set of its tokenizer."""

UNKNOWN = "unknown: published weights"
"""Stored for imported weights, whose training set is not known."""


def pretraining_set(sites: Iterable[pl.DataFrame], split: SplitRecipe) -> pl.DataFrame:
    """The ECGs of the training patients of all pretraining sites, with the columns `COLUMNS`.

    sites: `WaveformStore.ecgs` of each site. Left out: ECGs without a patient id, which might be of a test patient, and
    waveforms that a validation or test patient of any site has, too (the same file can be stored under two patients).
    """
    ecgs = pl.concat(sites)
    splits = assign_splits(ecgs, split)
    held_out = ecgs.filter(splits.is_in([VALIDATION, TEST]))["waveform_sha256"]
    chosen = ecgs.filter((splits == TRAIN) & ~ecgs["waveform_sha256"].is_in(held_out.implode()))
    return chosen.select(COLUMNS).sort("ecg_id")


def counts(ecgs: pl.DataFrame) -> dict[str, dict[str, int]]:
    """Numbers of ECGs and patients (`ecgs`, `patients`) by site."""
    by_site = ecgs.group_by("site").agg(ecgs=pl.len(), patients=pl.col("patient").n_unique()).sort("site")
    return {row.pop("site"): row for row in by_site.iter_rows(named=True)}


def save_training_set(folder: Path, ecgs: pl.DataFrame) -> Path:
    """Write the training set of the weights in `folder`, beside them. Patients are pseudonyms."""
    return write_parquet(folder / FILE, ecgs)


def copy_training_sets(source: Path, *, to: Path) -> None:
    """Copy the training sets of a network and of its tokenizer from its folder to another, as far as they are known."""
    for below in (Path(), TOKENIZER):
        if (source / below / FILE).exists():
            write_atomically(to / below / FILE, partial(link_or_copy, source / below / FILE))


def read_training_set(folder: Path) -> pl.DataFrame | None:
    """The ECGs that the weights in `folder` were trained on; None if they are not known."""
    return pl.read_parquet(folder / FILE) if (folder / FILE).exists() else None


def record_training_set(folder: Path, **seen: pl.DataFrame | None) -> None:
    """Add the counts by site of training sets to the config in `folder`.

    seen: by name, such as `network` and `tokenizer`; None is an unknown training set.
    """
    trained_on = {name: UNKNOWN if ecgs is None else counts(ecgs) for name, ecgs in seen.items()}
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "pretrained_on": trained_on})
