"""The training set of pretraining, stored beside the weights, so that tested ECGs can be compared with it."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path

import polars as pl

from ecg_pipeline.cohorts.splits import TEST, TRAIN, VALIDATION, SplitRecipe, assign_splits
from ecg_pipeline.storage.files import link_or_copy, read_json, write_atomically, write_json, write_parquet

COLUMNS = ("ecg_id", "site", "patient", "waveform_sha256")

NETWORK = "network"
"""Name of the training set of a pretrained network; that of a fitted asset has the asset's name."""

UNKNOWN = "unknown: published weights"
"""Stored for published weights, whose training set is not known."""

SETS = "pretrained_on"
"""Folder of the training sets, beside the weights: `counts.json`, and a table for each set that is known."""


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


def save_training_set(folder: Path, name: str, ecgs: pl.DataFrame | None) -> Path:
    """Write a training set of the weights in `folder` beside them, with its counts by site; return the table's path.

    name: `NETWORK` or a fitted asset. ecgs: None if the training set is not known. Patients are pseudonyms.
    """
    path, about = folder / SETS / f"{name}.parquet", folder / SETS / "counts.json"
    if ecgs is not None:
        write_parquet(path, ecgs)
    known = read_json(about) if about.exists() else {}
    write_json(about, {**known, name: UNKNOWN if ecgs is None else counts(ecgs)})
    return path


def training_counts(folder: Path) -> dict[str, dict[str, dict[str, int]] | None]:
    """Numbers of ECGs and patients by site of each training set of the weights in `folder`; None if not known."""
    known = read_json(folder / SETS / "counts.json")
    return {name: None if found == UNKNOWN else found for name, found in known.items()}


def copy_training_sets(source: Path, *, to: Path) -> None:
    """Copy all training sets of the weights in one folder to another."""
    for file in sorted((source / SETS).iterdir()):
        write_atomically(to / SETS / file.name, partial(link_or_copy, file))


def training_sets(folder: Path) -> dict[str, pl.DataFrame | None]:
    """What the weights in `folder` were trained on and fitted to, by name; None where it is not known."""
    names = read_json(folder / SETS / "counts.json")
    files = {name: folder / SETS / f"{name}.parquet" for name in names}
    return {name: pl.read_parquet(file) if file.exists() else None for name, file in files.items()}
