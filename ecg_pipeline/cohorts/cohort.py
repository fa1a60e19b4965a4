"""The cohort of a task: its labelled ECGs with their split, and the participant flow."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.cohorts.splits import (
    EXTERNAL,
    SPLITS,
    TEST,
    TRAIN,
    VALIDATION,
    SplitRecipe,
    assign_splits,
    fraction_order,
    last_place,
)
from ecg_pipeline.cohorts.tasks import TaskRecipe, label
from ecg_pipeline.storage.files import read_json, write_json, write_parquet

REVISION = 2
"""Bumped by hand when this module's results change."""

COLUMNS = (
    "ecg_id",
    "site",
    "patient",
    "split",
    "label",
    "fraction_order",
    "waveform_sha256",
    "acquired_at",
    "age_years",
    "sex",
    "device",
)


@dataclass(frozen=True)
class SiteEcgs:
    """The tables of a site: `WaveformStore.ecgs` and `ClinicalLabels.labels`."""

    ecgs: pl.DataFrame
    labels: pl.DataFrame


@dataclass(frozen=True)
class Cohort:
    """The labelled ECGs of one task. Files: `cohort.parquet`, `flow.json`."""

    folder: Path

    def table(self) -> pl.DataFrame:
        """One row per ECG, columns as in `COLUMNS`. label: 0 or 1 (i8). fraction_order: place of a training patient in
        (0, 1], see `splits.fraction_order`; null for others."""
        return pl.read_parquet(self.folder / "cohort.parquet")

    def flow(self) -> dict[str, dict[str, int]]:
        """Participant flow by site: ECGs excluded at each step, and ECGs, patients and positives of each split."""
        return read_json(self.folder / "flow.json")

    def train(self, fraction: float) -> pl.DataFrame:
        """The training ECGs of a fraction f: of the first ceil(f n) of n training patients."""
        rows = self.table().filter(pl.col("split") == TRAIN)
        return rows.filter(pl.col("fraction_order") <= last_place(fraction, rows["patient"].n_unique()) + 1e-12)

    def validation(self) -> pl.DataFrame:
        """The ECGs of the validation patients."""
        return self.table().filter(pl.col("split") == VALIDATION)

    def train_and_validation(self, fraction: float, split: SplitRecipe) -> pl.DataFrame:
        """The ECGs of the first ceil(f n) of n training and validation patients, for protocols without validation."""
        rows = self.table().filter(pl.col("split").is_in([TRAIN, VALIDATION]))
        order = fraction_order(rows["patient"], split)
        last = last_place(fraction, len(order)) + 1e-12
        return rows.filter(pl.col("patient").is_in([patient for patient, place in order.items() if place <= last]))

    def test_internal(self) -> pl.DataFrame:
        """The ECGs of the test patients of all internal sites."""
        return self.table().filter(pl.col("split") == TEST)

    def test(self, site: str) -> pl.DataFrame:
        """The ECGs tested at one site: those of its test patients, or all of an external hospital."""
        return self.table().filter((pl.col("site") == site) & pl.col("split").is_in([TEST, EXTERNAL]))


def assemble_cohort(
    task: TaskRecipe,
    *,
    split: SplitRecipe,
    sites: Mapping[str, SiteEcgs],
    pretrained_on: pl.DataFrame | None,
    out: Path,
) -> Cohort:
    """Label and split the ECGs of a task's sites, and write the cohort and its participant flow to `out`.

    pretrained_on: the ECGs of `cohorts.pretraining_set`; None if they are not known.

    Excluded and counted, in this order: ECGs without a patient id; ECGs whose waveform an earlier site of the task has;
    at an external hospital, ECGs of patients who have any ECG at an internal site or in `pretrained_on`; outside the
    training split, ECGs whose waveform is in `pretrained_on`, of any patient; ECGs that the rule does not label.
    """
    flow: dict[str, dict[str, int]] = {}
    seen: set[str] = set()
    included: list[pl.DataFrame] = []
    internal = known_internally(task, sites, pretrained_on)
    pretrained_waveforms = [] if pretrained_on is None else pretrained_on["waveform_sha256"].implode()
    is_pretrained_on = pl.col("waveform_sha256").is_in(pretrained_waveforms)
    for site in (*task.sites, *task.external):
        ecgs = sites[site].ecgs
        identified = ecgs.filter(pl.col("patient").is_not_null())
        new = identified.filter(~pl.col("waveform_sha256").is_in(list(seen)))
        seen |= set(new["waveform_sha256"])
        not_seen_internally = new.filter(~pl.col("patient").is_in(list(internal))) if site in task.external else new
        splits = pl.lit(EXTERNAL).alias("split") if site in task.external else assign_splits(not_seen_internally, split)
        eligible = not_seen_internally.with_columns(splits).filter((pl.col("split") == TRAIN) | ~is_pretrained_on)
        labelled = label(eligible, labels=sites[site].labels, rule=task.rule)
        flow[site] = {
            "ecgs_in_store": len(ecgs),
            "without_patient_id": len(ecgs) - len(identified),
            "waveform_of_another_site": len(identified) - len(new),
            "patient_also_internal": len(new) - len(not_seen_internally),
            "waveform_pretrained_on": len(not_seen_internally) - len(eligible),
            "without_label": len(eligible) - len(labelled),
        }
        included.append(labelled)
    table = pl.concat(included)
    order = fraction_order(table.filter(pl.col("split") == TRAIN)["patient"], split)
    table = table.with_columns(
        fraction_order=pl.when(pl.col("split") == TRAIN).then(pl.col("patient").replace_strict(order, default=None))
    )
    for site, steps in flow.items():
        for name in SPLITS:
            rows = table.filter((pl.col("site") == site) & (pl.col("split") == name))
            steps[f"{name}_ecgs"] = len(rows)
            steps[f"{name}_patients"] = rows["patient"].n_unique()
            steps[f"{name}_positives"] = int(rows["label"].sum())
    write_json(out / "flow.json", flow)
    write_parquet(out / "cohort.parquet", table.select(COLUMNS))
    return Cohort(out)


def known_internally(
    task: TaskRecipe, sites: Mapping[str, SiteEcgs], pretrained_on: pl.DataFrame | None
) -> frozenset[str]:
    """Patients with any ECG at an internal site or in `pretrained_on`: they are excluded at external hospitals."""
    internal = frozenset(patient for site in task.sites for patient in sites[site].ecgs["patient"].drop_nulls())
    return internal | frozenset(pretrained_on["patient"] if pretrained_on is not None else ())
