"""An invented home of a study: tables, records and ledger as large as those of real sites, whose arrays hold few bytes.

Written without running the pipeline, from random digests, so that millions of ECGs take minutes. What names patients
has the real columns, lengths of identifiers, row groups and numbers of rows; the files of Zarr arrays are all there,
with their digests in the records, but hold a few bytes each, and so do the tables of single shards of views.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import polars as pl

from ecg_pipeline.bench.home_writer import Home, Output, empty_home
from ecg_pipeline.cohorts import cohort, pretraining_set
from ecg_pipeline.cohorts.splits import EXTERNAL, TEST, TRAIN, VALIDATION
from ecg_pipeline.ingest.labels import LABEL_SCHEMA
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.ingest.store import ECG_SCHEMA, REJECT_SCHEMA
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Record, Upstream
from ecg_pipeline.storage.files import sha256_bytes
from ecg_pipeline.storage.shards import shard_name

SHARES = {"mount_sinai": 0.40, "mount_sinai_west": 0.15, "beth_israel": 0.20, "brooklyn": 0.10, "morningside": 0.15}
"""Sites, and the share of the ECGs that each has. The last is the external hospital."""

TASKS = {"low_lvef": 0.06, "hcm": 0.02, "stemi": 0.01}
"""Tasks, and the share of patients whose ECGs are labelled."""

MODELS = ("heartbeit", "vit_b16", "resnet_152", "small_cnn")
"""The first is pretrained here, the next two start from published weights, the last is not pretrained."""

FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)
PER_PATIENT = 4
SHARD = 1024
REJECTED, DUPLICATE = 0.01, 0.001
"""Shares of files that are rejects: those that are no use, and those that repeat another waveform."""

VIEWS = ("image_shards", "waveform_windows/ten_seconds")
ARRAYS = ("500hz_I-II-V1-V2-V3-V4-V5-V6_5000", "250hz_I-II-V1-V2-V3-V4-V5-V6_2500")
WORDS = pl.Series(["MAC 3500", "MAC 5500", "MAC VU", "MAC 2000"])
STAMP = datetime(2010, 1, 1)


def invented_home(folder: Path, ecgs: int, shares: Mapping[str, float] = SHARES) -> Archive:
    """Write a home with about this number of ECGs to `folder`. shares: of each site; the last one is external."""
    home = empty_home(folder)
    pseudonyms = _hex(_random("patients"), max(1, ecgs // PER_PATIENT), 16)
    is_internal = np.zeros(len(pseudonyms), bool)
    *internal, external = shares
    made: dict[str, dict[str, Record]] = {}
    labelled: dict[str, list[pl.DataFrame]] = {task: [] for task in TASKS}
    trained: list[pl.DataFrame] = []
    first = 0
    for site, share in shares.items():
        table = _ecgs(site, round(ecgs * share), pseudonyms, first)
        made[site] = _site_outputs(home, site, table)
        table = table.filter(~pl.col("is_duplicate"))
        if site == external:
            table = table.filter(~is_internal[table["number"]]).with_columns(split=pl.lit(EXTERNAL))
        is_internal[table["number"]] = site != external
        first += round(len(pseudonyms) * share)
        for task, of in labelled.items():
            of.append(_labelled(table, task))
        trained.append(table.filter(split=TRAIN).select(pretraining_set.COLUMNS))
    starts = _starts(home, made, internal, pl.concat(trained).sort("ecg_id"))
    reports = [_task_outputs(home, task, pl.concat(of), made, starts) for task, of in labelled.items()]
    home.add("benchmark_report", reports, lambda out: out.bytes("report.html", b"<!doctype html>"))
    return home.archive


def home_of_files(folder: Path, sizes: Sequence[int]) -> Archive:
    """Write a home of one output with files of these sizes to `folder`."""
    home, content = empty_home(folder), np.random.default_rng(0).bytes(max(sizes))

    def write(out: Output) -> None:
        for shard, size in enumerate(sizes):
            out.bytes(f"arrays.zarr/{shard_name(shard)}/c/0/0/0", (shard.to_bytes(8) + content)[:size])

    home.add("image_shards@mount_sinai", [], write)
    return home.archive


def _random(*of: object) -> np.random.Generator:
    """Random numbers that depend on what they are for alone."""
    return np.random.default_rng(list(hashlib.sha256(repr(of).encode()).digest()))


def _hex(rng: np.random.Generator, rows: int, size: int) -> pl.Series:
    """Random digests of `size` bytes, in hex."""
    text = np.frombuffer(rng.bytes(rows * size).hex().encode(), f"S{2 * size}")
    return pl.Series(text, dtype=pl.Binary).cast(pl.String)


def _ecgs(site: str, rows: int, pseudonyms: pl.Series, first: int) -> pl.DataFrame:
    """The ECGs of a site as `ECG_SCHEMA` has them, with their split, the patient's number and whether they repeat one.

    first: number of the first of the site's patients. Every twentieth ECG is of any patient of all sites.
    """
    rng, everyone = _random(site), len(pseudonyms)
    near = (first + rng.integers(0, max(1, rows // PER_PATIENT), rows)) % everyone
    number = np.where(rng.random(rows) < 0.05, rng.integers(0, everyone, rows), near)
    place = np.arange(rows)
    waveform = _hex(rng, rows, 32)
    is_duplicate = (rng.random(rows) < DUPLICATE) & (place > 0)
    twin = np.where(is_duplicate, np.maximum(place - 1, 0), place)
    array = rng.integers(0, 2, rows)
    return pl.DataFrame(
        {
            "ecg_id": _hex(rng, rows, 8),
            "patient": pseudonyms[number],
            "shard": place // SHARD,
            "array": pl.Series(ARRAYS)[array],
            "row": place % SHARD,
            "sampling_hz": np.array([500, 250])[array],
            "samples": np.array([5000, 2500])[array],
            "source": "~" + _hex(rng, rows, 8) + ".xml",
            "source_sha256": _hex(rng, rows, 32),
            "waveform_sha256": waveform[twin],
            "acquired_at": STAMP + pl.Series(rng.integers(0, 400_000_000, rows)).cast(pl.Duration("ms")) * 1000,
            "age_years": rng.integers(180, 900, rows) / 10,
            "sex": pl.Series(["female", "male"])[number % 2],
            "device": WORDS[rng.integers(0, len(WORDS), rows)],
            "rounding_microvolts": 0.0,
            "number": number,
            "is_duplicate": is_duplicate,
            "split": pl.Series([TRAIN] * 7 + [VALIDATION] + [TEST] * 2)[number % 10],
        }
    ).with_columns(
        site=pl.lit(site),
        microvolts_per_count=pl.lit([4.88] * 8, pl.List(pl.Float64)),
        leads=pl.lit(["I", "II", "V1", "V2", "V3", "V4", "V5", "V6"], pl.List(pl.String)),
        fold=pl.lit(None, pl.Int32),
    )


def _stored(table: pl.DataFrame) -> pl.DataFrame:
    """ECGs with the columns of the waveform store."""
    return table.select(pl.col(name).cast(kind) for name, kind in ECG_SCHEMA.items())


def _site_outputs(home: Home, site: str, table: pl.DataFrame) -> dict[str, Record]:
    """The outputs of a site that depend on no model."""
    raw = Upstream("raw_ecg_files", site, sha256_bytes(f"files of {site}".encode()))
    store = home.add(f"waveform_store@{site}", [raw], lambda out: _store(out, site, table))
    index = table.filter(~pl.col("is_duplicate")).select("ecg_id", pl.col("shard", "row").cast(pl.Int32))
    windows = index.with_columns(start_s=pl.lit(0, pl.Float32), recorded_s=pl.lit(10, pl.Float32))
    quality = index.select("ecg_id", flat_leads=pl.lit(0, pl.Int32), noise_mv=pl.col("row").cast(pl.Float32) / 1e5)
    filtered = home.add(
        f"filtered_waveforms@{site}",
        [store],
        lambda out: _write_view(out, index, axes=3, tables={"quality": quality}, by_shard=["quality"]),
    )
    images = home.add(f"image_shards@{site}", [filtered], lambda out: _write_view(out, index, axes=3))
    cut = home.add(
        f"{VIEWS[1]}@{site}",
        [store],
        lambda out: _write_view(out, windows, axes=3, tables={"left_out": index[:0]}, by_shard=["windows", "left_out"]),
    )
    labels = home.add(f"clinical_labels@{site}", [raw], lambda out: _labels(out, table))
    return {"waveform_store": store, "image_shards": images, VIEWS[1]: cut, "clinical_labels": labels}


def _store(out: Output, site: str, table: pl.DataFrame) -> None:
    rows, stored = len(table), _stored(table)
    rng = _random(site, "rejects")
    reasons = [str(reason) for reason in RejectReason if reason != RejectReason.DUPLICATE_WAVEFORM]
    rejected = max(1, round(REJECTED * rows))
    rejects = pl.DataFrame(
        {
            "site": pl.repeat(site, rejected, eager=True),
            "source": "~" + _hex(rng, rejected, 8) + ".xml",
            "reason": pl.Series(reasons)[rng.integers(0, len(reasons), rejected)],
            "detail": "of the file's own words",
            "twin": pl.Series([None] * rejected, dtype=pl.String),
            "patient": table["patient"][rng.integers(0, rows, rejected)],
        },
        schema=REJECT_SCHEMA,
    )
    shards = range(-(-rows // SHARD))
    per_shard = -(-rejected // len(shards))
    for shard in shards:
        name = shard_name(shard)
        out.table(f"tables/{name}/ecgs.parquet", stored[shard * SHARD : (shard + 1) * SHARD])
        out.table(f"tables/{name}/rejects.parquet", rejects[shard * per_shard : (shard + 1) * per_shard])
        out.bytes(f"waveforms.zarr/{name}/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
        for array in ARRAYS:
            out.array(f"waveforms.zarr/{name}/{array}", axes=3)
        out.input_digest(shard)
    out.bytes("waveforms.zarr/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    duplicates = (
        table.with_columns(twin=pl.col("ecg_id").shift())
        .filter("is_duplicate")
        .select(
            "site",
            "source",
            reason=pl.lit(str(RejectReason.DUPLICATE_WAVEFORM)),
            detail=pl.lit(""),
            twin="twin",
            patient="patient",
        )
    )
    out.table("rejects.parquet", pl.concat([rejects, duplicates]).sort("source"))
    out.table("ecgs.parquet", stored.filter(~table["is_duplicate"]))


def _write_view(
    out: Output,
    index: pl.DataFrame,
    *,
    axes: int,
    tables: Mapping[str, pl.DataFrame] | None = None,
    by_shard: Sequence[str] = (),
    below: str = "",
) -> None:
    """Write the files of a view. tables: of the whole output. by_shard: names of tables of each shard, of few bytes."""
    for shard in index["shard"].unique().sort():
        out.array(f"{below}arrays.zarr/{shard_name(shard)}", axes)
        for name in by_shard:
            out.bytes(f"{below}tables/{shard_name(shard)}/{name}.parquet", f"{name} {shard}".encode())
        if not below:
            out.input_digest(shard)
    out.bytes(f"{below}arrays.zarr/zarr.json", b'{"zarr_format": 3, "node_type": "group"}')
    out.table(f"{below}index.parquet", index)
    for name, table in (tables or {}).items():
        out.table(f"{below}{name}.parquet", table)


def _view(of: Record, archive: Archive, axes: int) -> Callable[[Output], None]:
    """Writes a view of the same ECGs as another one."""
    return lambda out: _write_view(out, pl.read_parquet(archive.folder(of) / "index.parquet"), axes=axes)


def _labels(out: Output, table: pl.DataFrame) -> None:
    """Two measurements or diagnoses of a quarter of the patients."""
    patients = table.filter(pl.col("number") % 4 == 0).unique("patient").sort("patient")
    codes = pl.DataFrame(
        {"system": ["diagnosis", "measurement"], "code": ["I42.1", "lvef_percent"], "value": [0.0, 35.0]}
    )
    rows = patients.select("patient", ecg_id=pl.lit(None, pl.String), observed_at="acquired_at").join(
        codes, how="cross"
    )
    out.table("labels.parquet", rows.select(pl.col(name).cast(kind) for name, kind in LABEL_SCHEMA.items()))
    out.bytes("skipped.json", b'{\n  "row without a patient": 0\n}\n')


def _labelled(table: pl.DataFrame, task: str) -> pl.DataFrame:
    """The ECGs of a site that a task's cohort has."""
    among = round(1 / TASKS[task])
    rows = table.filter((pl.col("number") // 10) % among == 0)
    return rows.with_columns(
        label=(pl.col("number") % 7 == 0).cast(pl.Int8),
        fraction_order=pl.when(split=TRAIN).then((pl.col("number") % 9973 + 1) / 9973),
    ).select(*cohort.COLUMNS, pl.col("shard", "row").cast(pl.Int32))


def _fitted(out: Output, sets: Mapping[str, pl.DataFrame]) -> None:
    """What is fitted to training sets: weights of a few bytes, with the tables."""
    for name, rows in sets.items():
        out.table(f"{pretraining_set.SETS}/{name}.parquet", rows)
    out.bytes(f"{pretraining_set.SETS}/counts.json", b"{}\n")
    out.bytes("config.json", b"{}\n")
    out.bytes("seed_0/weights.safetensors", b"weights")


def _starts(
    home: Home, made: Mapping[str, dict[str, Record]], internal: Sequence[str], training_set: pl.DataFrame
) -> dict[str, Record]:
    """The pretrained checkpoints by model; those of published weights know no training set. Adds patch tokens."""
    tables = {"image_tokenizer": training_set[::4], pretraining_set.NETWORK: training_set}
    images = [made[site]["image_shards"] for site in internal]
    tokenizer = home.add(
        "image_tokenizer",
        images,
        lambda out: _fitted(out, {"image_tokenizer": training_set[::4]}),
    )
    for site, outputs in made.items():
        outputs["patch_tokens"] = home.add(
            f"patch_tokens@{site}",
            [outputs["image_shards"], tokenizer],
            _view(outputs["image_shards"], home.archive, axes=2),
        )
    read = [made[site][name] for name in ("waveform_store", "image_shards", "patch_tokens") for site in internal]
    starts = {}
    for model in MODELS[:-1]:
        is_ours = model == MODELS[0]
        starts[model] = home.add(
            f"{model}/pretrained_checkpoint",
            [*read, tokenizer] if is_ours else [Upstream(f"published/{model}", None, sha256_bytes(model.encode()))],
            lambda out, is_ours=is_ours: _fitted(out, tables if is_ours else {}),
            identity={"recipe": {"seeds": [0]}},
        )
    return starts


def _task_outputs(
    home: Home, task: str, rows: pl.DataFrame, made: Mapping[str, Mapping[str, Record]], starts: Mapping[str, Record]
) -> Record:
    """The cohort, test sets, models and evaluations of a task, and its report, which is returned."""
    table = rows.select(cohort.COLUMNS)
    of_cohort = home.add(
        f"{task}/cohort",
        [outputs[name] for name in ("clinical_labels", "waveform_store") for outputs in made.values()],
        lambda out: (out.table("cohort.parquet", table), out.bytes("flow.json", b"{}\n")),
        identity={"split": {"test": 0.2, "validation": 0.1, "seed": 0}},
    )
    tested = {site: rows.filter(pl.col("split").is_in([TEST, EXTERNAL]), site=site) for site in made}
    test_sets = {
        site: home.add(
            f"{task}/test_set@{site}",
            [of_cohort, *(made[site][view] for view in VIEWS)],
            lambda out, site=site: _test_set(out, tested[site]),
        )
        for site in made
    }
    *internal, _ = made
    evaluations = []
    for model in MODELS:
        view = VIEWS[1] if model == "small_cnn" else VIEWS[0]
        start = starts.get(model)
        for fraction in FRACTIONS:
            upstream = [of_cohort, *(made[site][view] for site in internal), *([start] if start else [])]
            tuned = home.add(
                f"{task}/{model}/finetuned_model@{fraction:g}",
                upstream,
                lambda out, start=start, fraction=fraction: _model(out, home.archive, start, table, fraction),
                identity={"model": model, "recipe": {"seeds": [0]}},
            )
            evaluations += [
                home.add(
                    f"{task}/{model}/evaluation@{fraction:g}|{site}",
                    [tuned, test_sets[site]],
                    lambda out, site=site: _evaluation(out, tested[site]),
                    identity={"evaluation": {"seed": 0}},
                )
                for site in made
            ]
    return home.add(f"{task}/report", [of_cohort, *evaluations], lambda out: out.bytes("report.html", task.encode()))


def _test_set(out: Output, tested: pl.DataFrame) -> None:
    """A site's tested ECGs, with a copy of the views."""
    out.table("test_set.parquet", tested.select(cohort.COLUMNS).sort("ecg_id"))
    out.bytes("left_out.json", b"{}\n")
    for view in VIEWS:
        _write_view(out, tested.select("ecg_id", "shard", "row"), axes=3, below=f"views/{view}/")


def _model(out: Output, archive: Archive, start: Record | None, table: pl.DataFrame, fraction: float) -> None:
    """A fine-tuned model, with the tables of what it was trained on."""
    if start:
        sets = (name for name in start.files if name.startswith(f"{pretraining_set.SETS}/"))
        for name in sets:
            out.link(name, archive.folder(start) / name)
    trained = table.filter(pl.col("fraction_order") <= fraction, split=TRAIN)
    out.table("trained_on.parquet", trained.select(pretraining_set.COLUMNS))
    held_out = table.filter(split=VALIDATION).select("ecg_id", "patient", "label")
    out.table("seed_0/validation.parquet", held_out.with_columns(score=_scores(out, held_out).cast(pl.Float32)))
    out.bytes("config.json", b"{}\n")
    out.bytes("seed_0/weights.safetensors", b"weights")


def _evaluation(out: Output, tested: pl.DataFrame) -> None:
    """An evaluation of one seed at one site."""
    columns = ("ecg_id", "site", "patient", "label", "age_years", "sex", "device")
    rows = tested.select(*columns, seed=pl.lit(0, pl.Int64))
    out.table("predictions.parquet", rows.with_columns(score=_scores(out, rows)))
    for name in ("calibration", "decision", "operating_points", "subgroups"):
        out.table(f"{name}.parquet", pl.DataFrame({"seed": [0], "value": [0.5]}))
    out.bytes("metrics.json", b"{}\n")


def _scores(out: Output, rows: pl.DataFrame) -> pl.Series:
    """Scores of some ECGs, of each output others."""
    return pl.Series("score", _random(*out.folder.parts[-3:]).random(len(rows)))
