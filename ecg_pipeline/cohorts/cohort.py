"""The cohort of a task: labelled ECGs with their part, and the participant flow that led to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.cohorts.splits import EXTERNAL, TEST, TRAIN, VALIDATION, SplitRecipe, parts, ranks, up_to
from ecg_pipeline.cohorts.tasks import TaskRecipe, label
from ecg_pipeline.storage.files import read_json, write_json, write_parquet

REVISION = 2
"""Bumped by hand when this module's results change."""

COLUMNS = (
    "record",
    "site",
    "patient",
    "part",
    "label",
    "rank",
    "waveform_sha256",
    "acquired_at",
    "age_years",
    "sex",
    "device",
)


@dataclass(frozen=True)
class SiteRecords:
    """What a site brings to a task: its ECGs (`WaveformStore.records`) and labels (`ClinicalLabels.labels`)."""

    records: pl.DataFrame
    labels: pl.DataFrame


@dataclass(frozen=True)
class Cohort:
    """Labelled ECGs of one task. Files: `cohort.parquet`, `flow.json`."""

    folder: Path

    def table(self) -> pl.DataFrame:
        """One row an ECG: record, site, patient, part, label (i8), rank (of training patients, in (0, 1]),
        waveform_sha256, and what is known of the recording."""
        return pl.read_parquet(self.folder / "cohort.parquet")

    def flow(self) -> dict[str, dict[str, int]]:
        """By site: ECGs left out at each step, and what remains."""
        return read_json(self.folder / "flow.json")

    def train(self, fraction: float) -> pl.DataFrame:
        """The training ECGs of the first ceil(f n) of n training patients."""
        rows = self.table().filter(pl.col("part") == TRAIN)
        return rows.filter(pl.col("rank") <= up_to(fraction, rows["patient"].n_unique()) + 1e-12)

    def validation(self) -> pl.DataFrame:
        """The ECGs on which an epoch is chosen."""
        return self.table().filter(pl.col("part") == VALIDATION)

    def train_and_validation(self, fraction: float, split: SplitRecipe) -> pl.DataFrame:
        """The ECGs of the first ceil(f n) of n training and validation patients: who trains where nobody validates."""
        rows = self.table().filter(pl.col("part").is_in([TRAIN, VALIDATION]))
        rank = ranks(rows["patient"], split)
        last = up_to(fraction, len(rank)) + 1e-12
        return rows.filter(pl.col("patient").is_in([patient for patient, place in rank.items() if place <= last]))

    def test_inside(self) -> pl.DataFrame:
        """The ECGs of the test patients of all internal sites."""
        return self.table().filter(pl.col("part") == TEST)

    def test(self, site: str) -> pl.DataFrame:
        """The ECGs that are tested at one site: its test patients, or all of an external hospital."""
        return self.table().filter((pl.col("site") == site) & pl.col("part").is_in([TEST, EXTERNAL]))


def assemble_cohort(
    task: TaskRecipe, split: SplitRecipe, sites: Mapping[str, SiteRecords], pool: pl.DataFrame | None, out: Path
) -> Cohort:
    """Label, split and count the ECGs of a task's sites.

    pool: the ECGs that are pretrained on (`cohorts.pool`), None where nobody knows them.
    Left out, step by step and counted: ECGs without a patient id; whose waveform another site has already (the first in
    the order of the task keeps it); at an external hospital those of patients who have any ECG at a site inside or in
    the pool; outside the training part those whose waveform the pool has, under whatever patient; and those that the
    rule does not label.
    """
    flow: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    kept: list[pl.DataFrame] = []
    inside = known_inside(task, sites, pool)
    pretrained_on = pl.col("waveform_sha256").is_in([] if pool is None else pool["waveform_sha256"].implode())
    for site in (*task.sites, *task.external):
        records = sites[site].records
        identified = records.filter(pl.col("patient").is_not_null())
        new = identified.filter(~pl.col("waveform_sha256").is_in(list(seen)))
        seen |= set(new["waveform_sha256"])
        not_seen_internally = new.filter(~pl.col("patient").is_in(list(inside))) if site in task.external else new
        part = pl.lit(EXTERNAL).alias("part") if site in task.external else parts(not_seen_internally, split)
        eligible = not_seen_internally.with_columns(part).filter((pl.col("part") == TRAIN) | ~pretrained_on)
        labelled = label(eligible, sites[site].labels, task.rule)
        flow[site] = {
            "ecgs_in_store": len(records),
            "without_patient_id": len(records) - len(identified),
            "waveform_of_another_site": len(identified) - len(new),
            "patient_also_internal": len(new) - len(not_seen_internally),
            "waveform_pretrained_on": len(not_seen_internally) - len(eligible),
            "without_label": len(eligible) - len(labelled),
        }
        kept.append(labelled)
    table = pl.concat(kept)
    rank = ranks(table.filter(pl.col("part") == TRAIN)["patient"], split)
    table = table.with_columns(
        rank=pl.when(pl.col("part") == TRAIN).then(pl.col("patient").replace_strict(rank, default=None))
    )
    for site, steps in flow.items():
        for part in (TRAIN, VALIDATION, TEST, EXTERNAL):
            rows = table.filter((pl.col("site") == site) & (pl.col("part") == part))
            steps[f"{part}_ecgs"] = len(rows)
            steps[f"{part}_patients"] = rows["patient"].n_unique()
            steps[f"{part}_positives"] = int(rows["label"].sum())
    write_json(out / "flow.json", flow)
    write_parquet(out / "cohort.parquet", table.select(COLUMNS))
    return Cohort(out)


def known_inside(task: TaskRecipe, sites: Mapping[str, SiteRecords], pool: pl.DataFrame | None) -> frozenset[str]:
    """Patients with any ECG at an internal site or in the pool, who may not test at an external hospital."""
    inside = frozenset(patient for site in task.sites for patient in sites[site].records["patient"].drop_nulls())
    return inside | frozenset(pool["patient"] if pool is not None else ())
