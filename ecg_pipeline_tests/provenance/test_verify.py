"""What was altered in a home is named, file and record."""

import os
import shutil

import polars as pl
import pytest

from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.provenance.verify import Scope, verify
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.provenance.altering import (
    EVALUATION,
    MODEL,
    PARTITION,
    change_pixel,
    change_table,
    document,
    edit,
    edit_ledger,
    edit_line,
    edit_record,
    evaluation,
    findings,
    first_row,
    flip_byte,
    folder_of,
    record_file,
    replace_by_link,
    replace_folder_by_link,
    swap,
    weights,
)

TAMPERINGS = {
    "one bit of the weights": (lambda a: flip_byte(weights(a)), "weights.safetensors", MODEL),
    "the weights are cut short": (lambda a: os.truncate(weights(a), 100), "weights.safetensors", MODEL),
    "the weights grow": (lambda a: weights(a).open("ab").write(b"\0"), "weights.safetensors", MODEL),
    "one byte of a shard of waveforms": (
        lambda a: flip_byte(
            next(p for p in (folder_of(a, "waveform_store", "beth_israel") / "waveforms.zarr").rglob("c/*/*/*"))
        ),
        "waveforms.zarr",
        "waveform_store@beth_israel",
    ),
    "one pixel": (change_pixel, "arrays.zarr/shard_00000", "image_shards@mount_sinai"),
    "one clinical label": (
        lambda a: change_table(
            folder_of(a, "clinical_labels", "mount_sinai") / "labels.parquet", v=first_row("value", 60.0)
        ),
        "labels.parquet",
        "clinical_labels@mount_sinai",
    ),
    "one label of the cohort": (
        lambda a: change_table(folder_of(a, "low_lvef/cohort") / "cohort.parquet", v=first_row("label", 0)),
        "cohort.parquet",
        "low_lvef/cohort",
    ),
    "a cohort row moved across the split": (
        lambda a: change_table(folder_of(a, "low_lvef/cohort") / "cohort.parquet", v=first_row("split", "test")),
        "cohort.parquet",
        "low_lvef/cohort",
    ),
    "a patient taken out of the training set": (
        lambda a: (lambda path: pl.read_parquet(path)[1:].write_parquet(path))(
            folder_of(a, MODEL, PARTITION) / "trained_on.parquet"
        ),
        "trained_on.parquet",
        MODEL,
    ),
    "a patient taken out of what pretraining saw": (
        lambda a: (lambda path: pl.read_parquet(path)[1:].write_parquet(path))(
            folder_of(a, "heartbeit/pretrained_checkpoint") / "pretrained_on" / "network.parquet"
        ),
        "network.parquet",
        "heartbeit/pretrained_checkpoint",
    ),
    "a reject hidden": (
        lambda a: (lambda path: pl.read_parquet(path).clear().write_parquet(path))(
            folder_of(a, "waveform_store", "morningside") / "rejects.parquet"
        ),
        "rejects.parquet",
        "waveform_store@morningside",
    ),
    "a metric": (
        lambda a: edit(evaluation(a, "metrics.json"), lambda m: m["auroc"].update(value=0.99)),
        "metrics.json",
        EVALUATION[0],
    ),
    "a score": (
        lambda a: change_table(evaluation(a, "predictions.parquet"), v=first_row("score", 0.9)),
        "predictions.parquet",
        EVALUATION[0],
    ),
    "the report": (
        lambda a: (folder_of(a, "low_lvef/report") / "report.html").write_text("<!doctype html><title>Better</title>"),
        "report.html",
        "low_lvef/report",
    ),
    "two files swapped": (
        lambda a: swap(weights(a), weights(a).parent.parent / "seed_1" / "weights.safetensors"),
        "seed_1/weights.safetensors",
        MODEL,
    ),
    "two builds swapped": (
        lambda a: swap(evaluation(a, "metrics.json"), folder_of(a, EVALUATION[0], "1|mount_sinai") / "metrics.json"),
        "metrics.json",
        EVALUATION[0],
    ),
    "a file deleted": (lambda a: weights(a).unlink(), "weights.safetensors", MODEL),
    "a folder deleted": (lambda a: shutil.rmtree(weights(a).parent), "seed_0/config.json", MODEL),
    "a build deleted": (lambda a: shutil.rmtree(folder_of(a, MODEL, PARTITION)), MODEL, MODEL),
    "a file added": (lambda a: weights(a).with_name("extra.bin").write_bytes(b"x"), "extra.bin", MODEL),
    "a hidden file added": (lambda a: weights(a).with_name(".extra").write_bytes(b"x"), ".extra", MODEL),
    "a file added beside the builds": (
        lambda a: (a.place(MODEL, PARTITION) / "notes.txt").write_text("x"),
        "notes.txt",
        "",
    ),
    "a file that is a link to elsewhere": (lambda a: replace_by_link(weights(a)), "weights.safetensors", MODEL),
    "a folder that is a link to elsewhere": (
        lambda a: replace_folder_by_link(weights(a).parent, a.home.parent / "seed"),
        "seed_0/weights.safetensors",
        MODEL,
    ),
    "a build that is a link to elsewhere": (
        lambda a: replace_folder_by_link(folder_of(a, MODEL, PARTITION), a.home.parent / "build"),
        MODEL,
        MODEL,
    ),
    "the record edited": (lambda a: edit_record(a, lambda r: r.update(user="somebody")), "records/", MODEL),
    "the record edited in one place": (
        lambda a: edit(a.place(MODEL, PARTITION) / "record.json", lambda r: r.update(git_dirty=True)),
        "record.json",
        MODEL,
    ),
    "a seed changed in the record": (
        lambda a: edit_record(a, lambda r: r["identity"]["recipe"].update(seeds=[0, 5])),
        "records/",
        MODEL,
    ),
    "an upstream entry removed": (lambda a: edit_record(a, lambda r: r["upstream"].pop()), "records/", MODEL),
    "an upstream entry of another record": (
        lambda a: edit_record(a, lambda r: r["upstream"][0].update(record="0" * 64)),
        "records/",
        MODEL,
    ),
    "times forged": (
        lambda a: edit_record(a, lambda r: r.update(started_at="2020-01-01T00:00:00.000+00:00")),
        "records/",
        MODEL,
    ),
    "a check flipped": (lambda a: edit_record(a, lambda r: r["checks"][0].update(passed=False)), "records/", MODEL),
    "a digest of the record brought to an altered file": (
        lambda a: (
            flip_byte(weights(a)),
            edit_record(a, lambda r: r.update(files=folder_digests(weights(a).parent.parent))),
        ),
        "records/",
        MODEL,
    ),
    "a record deleted": (lambda a: record_file(a).unlink(), "records", MODEL),
    "an older record made the newest": (
        lambda a: shutil.copy(record_file(a, MODEL, "0.25"), a.place(MODEL, PARTITION) / "record.json"),
        "record.json",
        MODEL,
    ),
    "a record that is no record": (lambda a: record_file(a).write_text("{}"), "records/", ""),
    "the study's text edited": (
        lambda a: edit(document(a, "study_text"), lambda t: t.update(title="Other")),
        "documents",
        "",
    ),
    "the environment edited": (
        lambda a: edit(document(a, "environment"), lambda t: t["packages"].update(torch="9.9")),
        "documents",
        "",
    ),
    "a document deleted": (lambda a: document(a, "environment").unlink(), "documents", ""),
    "an entry of the ledger changed": (
        lambda a: edit_ledger(a, lambda lines: edit_line(lines, 3, at="2020-01-01T00:00:00.000+00:00")),
        "ledger.jsonl",
        "",
    ),
    "an entry of the ledger taken out": (lambda a: edit_ledger(a, lambda lines: lines.pop(2)), "ledger.jsonl", ""),
    "the last entry of the ledger taken out": (
        lambda a: edit_ledger(a, lambda lines: lines.pop()),
        "low_lvef/report",
        "",
    ),
    "the ledger deleted": (lambda a: a.ledger.path.unlink(), "records/", MODEL),
    "a check flipped in the ledger": (
        lambda a: edit_ledger(
            a,
            lambda lines: edit_line(
                lines,
                next(n for n, line in enumerate(lines) if b'"checked"' in line),
                facts={"asset": "low_lvef/cohort", "partition": None, "checks": []},
            ),
        ),
        "ledger.jsonl",
        "",
    ),
}


def test_a_home_as_it_was_made_has_no_findings(archive):
    found = verify(archive, Scope(), hasher=Hasher(), workers=2)
    assert found.findings == found.notes == []
    assert found.records == len(list(archive.root.rglob("records/*.json")))
    assert found.files == sum(len(record.files) for record in archive.all_records())
    assert found.bytes == sum(record.size_bytes for record in archive.all_records())
    assert findings(archive, quick=True) == []


@pytest.mark.parametrize("name", TAMPERINGS)
def test_a_single_tampering_is_named_with_file_and_record(archive, name):
    tamper, file, output = TAMPERINGS[name]
    tamper(archive)
    found = findings(archive)
    assert any(file in finding.file and finding.output.startswith(output) for finding in found), found


@pytest.mark.parametrize(
    "name", [name for name in TAMPERINGS if "record" in name or "ledger" in name or "deleted" in name]
)
def test_a_quick_verification_sees_records_ledger_and_what_is_missing(archive, name):
    tamper, file, _ = TAMPERINGS[name]
    tamper(archive)
    assert any(file in finding.file for finding in findings(archive, quick=True))


def test_a_model_is_verified_with_everything_upstream_and_nothing_else(archive):
    records = lineage(archive, archive.require(MODEL, PARTITION)).records
    assert findings(archive, records=records) == []
    flip_byte(evaluation(archive, "metrics.json"))
    assert findings(archive, records=records) == []
    flip_byte(folder_of(archive, "low_lvef/cohort") / "flow.json")
    assert [finding.output for finding in findings(archive, records=records)] == ["low_lvef/cohort"]
