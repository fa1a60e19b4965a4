"""Which ECGs are pretrained on: recorded beside the weights, so that tested ECGs can be compared with those seen."""

from collections.abc import Iterable
from pathlib import Path

import polars as pl

from ecg_pipeline.cohorts.splits import TEST, TRAIN, VALIDATION, SplitRecipe, parts
from ecg_pipeline.storage.files import link_or_copy, read_json, write_atomically, write_json, write_parquet

COLUMNS = ("record", "site", "patient", "waveform_sha256")
TOKENIZER = Path("tokenizer")
"""Subfolder of a pretrained network with the training set of its tokenizer."""

UNKNOWN = "unknown: published weights"
"""Recorded of imported weights, whose training set is not known."""


def pretraining_pool(sites: Iterable[pl.DataFrame], split: SplitRecipe) -> pl.DataFrame:
    """ECGs that may be pretrained on, columns as in `COLUMNS`: those of training patients.

    sites: the records of every site that is pretrained on, because one waveform can stand under two patients, even of
    two sites. It is left out where one of them validates or tests. So is an ECG without a patient id: nothing shows
    that it lies outside the test set.
    """
    records = pl.concat(sites)
    part = parts(records, split)
    held_out = records.filter(part.is_in([VALIDATION, TEST]))["waveform_sha256"]
    pool = records.filter((part == TRAIN) & ~records["waveform_sha256"].is_in(held_out.implode()))
    return pool.select(COLUMNS).sort("record")


def counts(pool: pl.DataFrame) -> dict[str, dict[str, int]]:
    """ECGs and patients of a pool by site."""
    by_site = pool.group_by("site").agg(ecgs=pl.len(), patients=pl.col("patient").n_unique()).sort("site")
    return {row.pop("site"): row for row in by_site.iter_rows(named=True)}


def keep_pool(folder: Path, pool: pl.DataFrame) -> Path:
    """Write what weights in `folder` are trained on: `pretrained_on.parquet`, pseudonymous as the pool is."""
    return write_parquet(_place(folder), pool)


def hand_on_pools(start: Path, folder: Path) -> None:
    """Copy the training sets recorded beside the weights in `start`, and their tokenizer's, to `folder`."""
    for part in (Path(), TOKENIZER):
        if _place(start / part).exists():
            (folder / part).mkdir(parents=True, exist_ok=True)
            write_atomically(_place(folder / part), lambda path, part=part: link_or_copy(_place(start / part), path))


def read_pool(folder: Path) -> pl.DataFrame | None:
    """The ECGs that the weights in `folder` were trained on; None if unknown."""
    return pl.read_parquet(_place(folder)) if _place(folder).exists() else None


def record_training_set(folder: Path, **seen: pl.DataFrame | None) -> None:
    """Add to the config in `folder` which ECGs each named part of the training saw, as counts by site."""
    trained_on = {name: UNKNOWN if pool is None else counts(pool) for name, pool in seen.items()}
    write_json(folder / "config.json", {**read_json(folder / "config.json"), "pretrained_on": trained_on})


def _place(folder: Path) -> Path:
    return folder / "pretrained_on.parquet"
