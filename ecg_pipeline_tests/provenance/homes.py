"""A small home written without running the pipeline: records that chain drop folders to evaluations.

raw_ecg_files (source) -> waveform_store -> image_shards -> heartbeit/pretrained_checkpoint
waveform_store, clinical_labels -> low_lvef/cohort -> low_lvef/test_set
checkpoint, cohort -> low_lvef/heartbeit/finetuned_model -> low_lvef/heartbeit/evaluation -> low_lvef/report
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import zarr
from safetensors.numpy import save_file

from ecg_pipeline.cohorts.cohort import COLUMNS
from ecg_pipeline.ingest.labels import LABEL_SCHEMA
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.ingest.store import ECG_SCHEMA, REJECT_SCHEMA
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import CheckOutcome, Record, Upstream, build_id, content_version, seeds_in
from ecg_pipeline.storage.files import digest_json, folder_digests, sha256_bytes, write_json, write_parquet, write_text
from ecg_pipeline.study import load_study, study_content, study_file

SITES = ("mount_sinai", "beth_israel", "morningside")
EXTERNAL = "morningside"
FRACTIONS = ("0.25", "1")
PATIENTS = {"mount_sinai": 24, "beth_israel": 16, "morningside": 10}
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENVIRONMENT = {
    "python": "3.11.7",
    "lock_sha256": "1" * 64,
    "packages": {"numpy": "2.4.6", "polars": "2.1.0", "safetensors": "0.6.2", "torch": "2.15.0", "zarr": "3.1.6"},
}
HARDWARE = {
    "machine": "x86_64",
    "system": "Linux",
    "cores": 2,
    "threads": 1,
    "device": "cpu",
    "gpu": None,
    "driver": None,
}
START = datetime(2026, 1, 5, 8, tzinfo=UTC)
KEY = fixed_key("invented")
METRICS = {"auroc": (0.91, 0.84, 0.96), "average_precision": (0.72, 0.58, 0.83)}


@dataclass
class Home:
    """The home while it is written. minutes: since `START`, at the end of the newest output."""

    archive: Archive
    study: str
    study_text: str
    environment: str
    minutes: int = 0

    def add(
        self,
        asset: str,
        partition: str | None,
        identity: dict[str, Any],
        upstream: list[Record | Upstream],
        write: Callable[[Path], object],
        **more: Any,
    ) -> Record:
        """Write the files of an output, then its record. more: fields of the record."""
        entries = tuple(_entry(one) for one in upstream)
        code_version = digest_json(identity)
        build = build_id(code_version, entries)
        folder = self.archive.build_folder(asset, partition, build)
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)
        files = folder_digests(folder)
        began, self.minutes = START + timedelta(minutes=self.minutes), self.minutes + 1
        return self.archive.save(
            Record(
                asset=asset,
                partition=partition,
                build=build,
                data_version=content_version(files),
                code_version=code_version,
                identity=identity,
                study=self.study,
                study_text=self.study_text,
                upstream=entries,
                files=files,
                sizes={name: (folder / name).stat().st_size for name in files},
                seeds=seeds_in(identity),
                git_commit=COMMIT,
                git_dirty=False,
                environment=self.environment,
                packages={"python": "3.11.7", "ecg-pipeline": "0.1.0", "torch": "2.15.0"},
                hardware=HARDWARE,
                command=("ecg-pipeline", "demo"),
                user="researcher",
                peak_memory_bytes=2**29,
                dagster_run_id=f"run-{self.minutes:04}",
                started_at=began.isoformat(timespec="milliseconds"),
                ended_at=(began + timedelta(seconds=50)).isoformat(timespec="milliseconds"),
                **{"mlflow_run_id": None} | more,
            )
        )


def small_home(folder: Path) -> Archive:
    """Write the home of an invented study of three sites to `folder`."""
    study = load_study(study_file("demo"))
    archive = Archive(folder)
    documents = archive.documents
    home = Home(archive, study.fingerprint(), documents.save(study_content(study)), documents.save(ENVIRONMENT))
    tables = {site: ecgs_of(site) for site in SITES}
    split = {"kind": "patient_hash", "test": 0.3, "validation": 0.15, "seed": 0}
    stores, labels, images = {}, {}, {}
    for site in SITES:
        raw = Upstream("raw_ecg_files", site, sha256_bytes(f"files of {site}".encode()))
        ingest = {"revision": 3, "ingest": {"minimum_seconds": 5.0, "files_per_shard": 1024}}
        stores[site] = home.add(
            "waveform_store", site, ingest, [raw], lambda out, site=site: _store(out, site, tables[site])
        )
        labels[site] = home.add(
            "clinical_labels", site, {"revision": 2}, [raw], lambda out, site=site: _labels(out, tables[site])
        )
        images[site] = home.add(
            "image_shards",
            site,
            {"revision": 1, "sheet": {"rows": 8, "columns": 1, "height_px": 16, "width_px": 16}},
            [stores[site]],
            lambda out, site=site: _images(out, tables[site]),
        )
    cohort_table = cohort_of(tables)
    cohort = home.add(
        "low_lvef/cohort",
        None,
        {"revision": 2, "task": {"sites": [*SITES[:2]], "external": [EXTERNAL]}, "split": split},
        [labels[site] for site in SITES] + [stores[site] for site in SITES],
        lambda out: _cohort(out, cohort_table),
        checks=(CheckOutcome("splits_are_by_patient", True, False), CheckOutcome("few_positives", True, True)),
    )
    network = {"family": "heartbeit", "width": 64, "depth": 3, "heads": 2}
    checkpoint = home.add(
        "heartbeit/pretrained_checkpoint",
        None,
        {"revision": 5, "model": network, "recipe": {"epochs": 5, "batch": 16, "seeds": [0]}, "split": split},
        [images[site] for site in SITES[:2]] + [stores[site] for site in SITES[:2]],
        lambda out: _checkpoint(out, network, cohort_table),
        mlflow_run_id="5" * 32,
        mlflow_model_id="m-" + "5" * 32,
    )
    test_sets = {
        site: home.add(
            "low_lvef/test_set",
            site,
            {"revision": 2, "views": ["image_shards"]},
            [images[site], cohort],
            lambda out, site=site: write_parquet(out / "test_set.parquet", tested(cohort_table, site)),
        )
        for site in SITES
    }
    evaluations = []
    for number, fraction in enumerate(FRACTIONS):
        model = home.add(
            "low_lvef/heartbeit/finetuned_model",
            fraction,
            {"revision": 6, "model": network, "recipe": {"epochs": 5, "seeds": [0, 1]}, "split": split},
            [checkpoint, images["beth_israel"], images["mount_sinai"], cohort],
            lambda out, fraction=fraction: _model(out, network, trained(cohort_table, fraction), cohort_table),
            checks=(CheckOutcome("trained_on_training_patients", True, False),),
            mlflow_run_id=f"{number}" * 32,
            mlflow_model_id=f"m-{number}" + "7" * 31,
        )
        evaluations += [
            home.add(
                "low_lvef/heartbeit/evaluation",
                f"{fraction}|{site}",
                {"revision": 4, "evaluation": {"bootstrap_draws": 500, "seed": 0}, "metrics": [*METRICS]},
                [model, test_sets[site]],
                lambda out, site=site: _evaluation(out, tested(cohort_table, site)),
                checks=(CheckOutcome("no_patient_of_training", True, False),),
            )
            for site in SITES
        ]
    home.add(
        "low_lvef/report",
        None,
        {"revision": 14, "title": "Left ventricular ejection fraction of 40 % or less"},
        [cohort, checkpoint, *evaluations],
        lambda out: write_text(out / "report.html", "<!doctype html><title>Low LVEF</title>"),
    )
    return archive


def pseudonym(site: str, number: int) -> str:
    """The pseudonym of one of a site's patients."""
    return KEY.pseudonym("hospital_system", f"{site} patient {number}")


def ecgs_of(site: str) -> pl.DataFrame:
    """A site's ECGs, two of each patient."""
    rows = []
    for number in range(2 * PATIENTS[site]):
        source = KEY.digest(f"file {site} {number}")
        rows.append(
            {
                "ecg_id": f"{site}-{source[:24]}",
                "site": site,
                "patient": pseudonym(site, number // 2),
                "shard": 0,
                "array": "500hz",
                "row": number,
                "microvolts_per_count": [4.88, 4.88],
                "leads": ["I", "II"],
                "sampling_hz": 500,
                "samples": 32,
                "source": source,
                "source_sha256": sha256_bytes(f"source {site} {number}".encode()),
                "waveform_sha256": sha256_bytes(f"waveform {site} {number}".encode()),
                "acquired_at": datetime(2019, 3, 1) + timedelta(days=number),
                "age_years": 40.0 + number % 40,
                "sex": ("female", "male")[number // 2 % 2],
                "device": "MAC 3500",
            }
        )
    return pl.DataFrame(rows, schema=ECG_SCHEMA)


def cohort_of(tables: dict[str, pl.DataFrame]) -> pl.DataFrame:
    """The cohort: of each ten internal patients six train, one validates and three are tested."""
    parts = []
    for site, table in tables.items():
        numbers = pl.int_range(table.height) // 2
        split = pl.when(numbers % 10 < 6).then(pl.lit("train")).when(numbers % 10 < 7).then(pl.lit("validation"))
        parts.append(
            table.with_columns(
                split=pl.lit("external") if site == EXTERNAL else split.otherwise(pl.lit("test")),
                label=(numbers % 3 == 0).cast(pl.Int8),
                place=(numbers + 1) / PATIENTS[site],
            )
        )
    is_train = pl.col("split") == "train"
    return pl.concat(parts).with_columns(fraction_order=pl.when(is_train).then("place")).select(COLUMNS)


def trained(cohort: pl.DataFrame, fraction: str) -> pl.DataFrame:
    """The training ECGs of a fraction."""
    return cohort.filter(pl.col("split") == "train", pl.col("fraction_order") <= float(fraction))


def tested(cohort: pl.DataFrame, site: str) -> pl.DataFrame:
    """The test ECGs of a site."""
    return cohort.filter(pl.col("split").is_in(["test", "external"]), pl.col("site") == site)


def _entry(one: Record | Upstream) -> Upstream:
    return one if isinstance(one, Upstream) else Upstream(one.asset, one.partition, one.data_version, one.digest)


def _store(out: Path, site: str, table: pl.DataFrame) -> None:
    write_parquet(out / "ecgs.parquet", table)
    rejected = {
        "site": site,
        "source": KEY.digest(f"reject {site}"),
        "reason": RejectReason.DUPLICATE_WAVEFORM,
        "detail": "",
        "twin": table["ecg_id"][0],
    }
    write_parquet(out / "rejects.parquet", pl.DataFrame([rejected], schema=REJECT_SCHEMA))
    counts = np.random.default_rng(len(site)).integers(-99, 99, (table.height, 2, 32), dtype=np.int16)
    zarr.create_array(out / "waveforms.zarr" / "shard_00000" / "500hz", data=counts)


def _labels(out: Path, table: pl.DataFrame) -> None:
    labels = table.unique("patient", maintain_order=True).select(
        "patient",
        ecg_id=pl.lit(None, pl.String),
        observed_at="acquired_at",
        system=pl.lit("measurement"),
        code=pl.lit("lvef_percent"),
        value=pl.lit(35.0),
    )
    write_parquet(out / "labels.parquet", labels.cast(LABEL_SCHEMA))  # type: ignore[arg-type]
    write_json(out / "skipped.json", {"row without a patient": 0})


def _images(out: Path, table: pl.DataFrame) -> None:
    pixels = np.random.default_rng(table.height).integers(0, 255, (table.height, 16, 16), dtype=np.uint8)
    zarr.create_array(out / "arrays.zarr" / "shard_00000", data=pixels)
    write_parquet(out / "index.parquet", table.select("ecg_id", "shard", "row"))


def _cohort(out: Path, cohort: pl.DataFrame) -> None:
    write_parquet(out / "cohort.parquet", cohort)
    flow = {
        str(site): {
            "ecgs_in_store": rows.height,
            **{f"{split}_ecgs": rows.filter(split=split).height for split in ("train", "validation", "test")},
        }
        for (site,), rows in cohort.group_by("site", maintain_order=True)
    }
    write_json(out / "flow.json", flow)


def _weights(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({"patch.weight": np.random.default_rng(seed).normal(size=(8, 8)).astype(np.float32)}, path)


def _pretrained_on(out: Path, cohort: pl.DataFrame) -> None:
    rows = cohort.filter(pl.col("split") == "train").select("ecg_id", "site", "patient", "waveform_sha256")
    write_parquet(out / "pretrained_on" / "network.parquet", rows)
    counts = {
        str(site): {"ecgs": of.height, "patients": of["patient"].n_unique()}
        for (site,), of in rows.group_by("site", maintain_order=True)
    }
    write_json(out / "pretrained_on" / "counts.json", {"network": counts})


def _checkpoint(out: Path, network: dict[str, Any], cohort: pl.DataFrame) -> None:
    _pretrained_on(out, cohort)
    write_json(out / "config.json", {"model": network, "origin": "masked image modelling", "checkpoints": ["seed_0"]})
    write_json(out / "seed_0" / "config.json", {"model": network, "seed": 0})
    _weights(out / "seed_0" / "weights.safetensors", 0)


def _model(out: Path, network: dict[str, Any], rows: pl.DataFrame, cohort: pl.DataFrame) -> None:
    _pretrained_on(out, cohort)
    write_parquet(out / "trained_on.parquet", rows.select("ecg_id", "site", "patient", "waveform_sha256"))
    config = {
        "model": network,
        "initialisation": "masked image modelling",
        "chosen_by": "highest AUROC on validation patients",
        "optimistic": False,
        "train_ecgs": rows.height,
        "train_patients": rows["patient"].n_unique(),
    }
    write_json(out / "config.json", config)
    for seed in (0, 1):
        write_json(out / f"seed_{seed}" / "config.json", {**config, "seed": seed})
        _weights(out / f"seed_{seed}" / "weights.safetensors", seed + len(rows))


def _evaluation(out: Path, rows: pl.DataFrame) -> None:
    patients, positives = rows["patient"].n_unique(), int(rows["label"].sum())
    figures = {
        name: {"value": value, "low": low, "high": high, "sd": None, "by_seed": {"0": value, "1": value}}
        for name, (value, low, high) in METRICS.items()
    }
    content = {"ecgs": rows.height, "patients": patients, "positives": positives, "draws": 500, **figures}
    write_json(out / "metrics.json", {**content, "trapezoid_auprc": 0.7, "brier": 0.12})
    predictions = rows.select(
        "ecg_id", "site", "patient", "label", "age_years", "sex", "device", seed=pl.lit(0, pl.Int64), score=pl.lit(0.5)
    )
    write_parquet(out / "predictions.parquet", predictions)
