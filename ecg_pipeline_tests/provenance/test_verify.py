"""What was altered in a home is named, file and record; what was only moved, pruned or run again is not."""

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import zarr

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.ledger import Head, Kind
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.provenance.record import build_id, content_version, read_record
from ecg_pipeline.provenance.verify import Scope, verify
from ecg_pipeline.storage.files import folder_digests, read_json, write_json
from ecg_pipeline_tests.provenance.homes import small_home

MODEL, PARTITION = "low_lvef/heartbeit/finetuned_model", "1"
EVALUATION = "low_lvef/heartbeit/evaluation", "1|morningside"


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return small_home(tmp_path_factory.mktemp("homes") / "demo")


@pytest.fixture
def archive(original, tmp_path):
    shutil.copytree(original.home, tmp_path / "demo", symlinks=True)
    return Archive(tmp_path / "demo")


def findings(archive, **scope):
    return verify(archive, Scope(**scope), hasher=Hasher(), workers=2).findings


def folder_of(archive, asset, partition=None):
    return archive.folder(archive.require(asset, partition))


def record_file(archive, asset=MODEL, partition=PARTITION):
    return archive.record_files(asset, partition)[0]


def edit(path, change):
    """Change a JSON file in place."""
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def edit_record(archive, change):
    """Change the newest record of the model in both of its files."""
    for path in (record_file(archive), archive.place(MODEL, PARTITION) / "record.json"):
        edit(path, change)


def flip_byte(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def change_pixel(archive):
    folder = folder_of(archive, "image_shards", "mount_sinai") / "arrays.zarr" / "shard_00000"
    array = zarr.open_array(str(folder), mode="r+")
    array[3, 5, 7] = int(np.asarray(array[3, 5, 7])) ^ 1


def change_table(path, **columns):
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def first_row(column, value):
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def swap(one: Path, other: Path):
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def replace_by_link(path):
    elsewhere = path.parent.parent.parent / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)


def replace_folder_by_link(folder, elsewhere):
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)


def edit_ledger(archive, change):
    lines = archive.ledger.path.read_bytes().splitlines()
    change(lines)
    archive.ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))


def edit_line(lines, number, **facts):
    content = json.loads(lines[number])
    lines[number] = json.dumps({**content, **facts}, separators=(",", ":")).encode()


def weights(archive):
    return folder_of(archive, MODEL, PARTITION) / "seed_0" / "weights.safetensors"


def document(archive, name):
    return archive.documents.path(getattr(archive.require(MODEL, PARTITION), name))


def evaluation(archive, name):
    return folder_of(archive, *EVALUATION) / name


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


def made_again(archive, asset, partition=None, day=1, change=lambda folder: None):
    """Make an output once more as another build: its newest one with other settings."""
    record = archive.require(asset, partition)
    identity = {**record.identity, "again": day}
    code_version = content_version(identity)
    build = build_id(code_version, record.upstream)
    folder = archive.build_folder(asset, partition, build)
    shutil.copytree(archive.folder(record), folder)
    change(folder)
    files = folder_digests(folder)
    return archive.save(
        replace(
            record,
            build=build,
            identity=identity,
            code_version=code_version,
            files=files,
            sizes={name: (folder / name).stat().st_size for name in files},
            data_version=content_version(files),
            started_at=f"2026-02-{day:02}T00:00:00.000+00:00",
            ended_at=f"2026-02-{day:02}T00:00:01.000+00:00",
        )
    )


def forge(archive, *, without=(), change=lambda record: record):
    """Write records and ledger anew so that every digest is right: as somebody would who can write to the home.

    without: digests of records to take out. change: what becomes of each record.
    """
    entries = list(archive.ledger.entries())
    records = {record.digest: record for record in archive.all_records()}
    for path in archive.root.rglob("records/*.json"):
        path.unlink()
    for path in archive.root.rglob("record.json"):
        path.unlink()
    archive.ledger.path.unlink()
    renamed = {}
    for entry in entries:
        if entry.kind != Kind.MADE or entry.facts["record"] in without:
            continue
        old = records[entry.facts["record"]]
        folder, files = archive.folder(old), folder_digests(archive.folder(old))
        versions = {(new.asset, new.partition): new.data_version for new in renamed.values()}
        upstream = tuple(
            replace(
                of,
                record=renamed[of.record].digest if of.record else None,
                data_version=versions.get((of.asset, of.partition), of.data_version),
            )
            for of in old.upstream
        )
        new = replace(
            change(old),
            upstream=upstream,
            build=build_id(old.code_version, upstream),
            files=files,
            sizes={name: (folder / name).stat().st_size for name in files},
            data_version=content_version(files),
        )
        if archive.folder(new) != folder:
            folder.rename(archive.folder(new))
        renamed[old.digest] = archive.save(new)


def rewritten(archive, before):
    flip_byte(weights(archive))
    forge(archive)


def truncated(archive, before):
    last = list(archive.ledger.entries())[-1].facts["record"]
    forge(archive, without=[last])


def rolled_back(archive, before):
    shutil.rmtree(archive.home)
    shutil.copytree(before, archive.home)


def record_taken_out(archive, before):
    record = archive.require("low_lvef/report", None)
    shutil.rmtree(archive.place("low_lvef/report", None))
    (archive.place("low_lvef/report", None) / "records").mkdir(parents=True)
    write_json(archive.home / "taken_out.json", record.digest)
    entries = [entry for entry in archive.ledger.entries() if entry.facts.get("asset") != "low_lvef/report"]
    archive.ledger.path.unlink()
    archive.ledger.append(*((Kind(entry.kind), entry.facts) for entry in entries))


def model_put_in(archive, before):
    """A model that was never trained stands where another one was, in its place in the history."""
    (weights(archive)).write_bytes(np.random.default_rng(9).bytes(500))
    forge(archive)


def looks_reset(archive, before):
    first = min((record for record in archive.history(*EVALUATION)), key=lambda record: record.ended_at)
    shutil.rmtree(archive.folder(first))
    report = archive.require("low_lvef/report", None)
    shutil.rmtree(archive.folder(report))
    forge(archive, without=[first.digest, report.digest])


FORGERIES = {
    "rewritten": rewritten,
    "truncated": truncated,
    "rolled back to an older whole state": rolled_back,
    "a record taken out": record_taken_out,
    "a model put in": model_put_in,
    "history of looks reset": looks_reset,
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forgery_without_a_wrong_digest_is_found_with_a_checkpoint(archive, tmp_path, name):
    before = shutil.copytree(archive.home, tmp_path / "before")
    made_again(archive, *EVALUATION, change=lambda folder: edit(folder / "metrics.json", lambda m: m.update(again=1)))
    head = archive.ledger.head()
    assert findings(archive, checkpoint=head) == []
    FORGERIES[name](archive, before)
    assert findings(archive) == [], "every digest of the forgery is right"
    found = findings(archive, checkpoint=head)
    assert [finding.file for finding in found] == ["provenance/ledger.jsonl"]
    assert "checkpoint" in found[0].what


def test_what_came_after_a_checkpoint_is_no_alarm(archive):
    head = archive.ledger.head()
    made_again(archive, *EVALUATION)
    assert findings(archive, checkpoint=head) == []
    assert findings(archive, checkpoint=Head(head.entries + 2, head.digest))


def moved(archive, tmp_path):
    return Archive(archive.home.rename(tmp_path / "moved"))


def synchronised(archive, tmp_path):
    subprocess.run(["cp", "-r", archive.home, tmp_path / "copy"], check=True)
    return Archive(tmp_path / "copy")


def touched(archive, tmp_path):
    for path in archive.home.rglob("*"):
        os.utime(path, (0, 0))
    return archive


def made_twice(archive, tmp_path):
    made_again(archive, MODEL, PARTITION)
    return archive


def databases_deleted(archive, tmp_path):
    for name in ("dagster", "mlflow"):
        shutil.rmtree(archive.home / name, ignore_errors=True)
    return archive


@pytest.mark.parametrize("change", [moved, synchronised, touched, made_twice, databases_deleted])
def test_what_alters_nothing_is_no_alarm(archive, tmp_path, change):
    head = archive.ledger.head()
    assert findings(change(archive, tmp_path), checkpoint=head) == []


def test_a_purged_build_is_told_apart_from_a_missing_one(archive):
    made_again(archive, MODEL, PARTITION)
    old = list(archive.history(MODEL, PARTITION))[-1]
    shutil.rmtree(archive.folder(old))
    assert [finding.what.split(",")[0] for finding in findings(archive)] == ["is missing"]
    facts = {"asset": old.asset, "partition": old.partition, "build": old.build, "reason": "prune"}
    archive.ledger.append((Kind.PURGED, facts))
    found = verify(archive, Scope(), hasher=Hasher())
    assert found.findings == []
    assert len(found.notes) == 1


@pytest.mark.parametrize("killed_after", ["the record's file", "the entry in the ledger"])
def test_a_save_that_was_interrupted_is_completed_or_undone(archive, monkeypatch, killed_after):
    class KilledError(BaseException):
        pass

    def killed(*arguments):
        raise KilledError

    before = archive.require(MODEL, PARTITION)
    where = {"the record's file": "ecg_pipeline.provenance.ledger.Ledger.append"}
    with monkeypatch.context() as patched:
        if killed_after in where:
            patched.setattr(where[killed_after], killed)
        else:
            from ecg_pipeline.provenance import archive as module

            write = module.write_text
            patched.setattr(
                module, "write_text", lambda path, text: killed() if path.name == "record.json" else write(path, text)
            )
        with pytest.raises(KilledError):
            made_again(archive, MODEL, PARTITION)
    archive.finish_interrupted_save(MODEL, PARTITION)
    is_completed = killed_after not in where
    assert (archive.require(MODEL, PARTITION) != before) == is_completed
    assert len(archive.record_files(MODEL, PARTITION)) == 1 + is_completed
    assert findings(archive) == []
    archive.finish_interrupted_save(MODEL, PARTITION)
    assert findings(archive) == []


def test_an_output_that_somebody_deleted_is_not_brought_back(archive):
    newest = archive.place(MODEL, PARTITION) / "record.json"
    record = archive.require(MODEL, PARTITION)
    newest.unlink()
    archive.finish_interrupted_save(MODEL, PARTITION)
    assert archive.require(MODEL, PARTITION) == record, "its build is there"
    newest.unlink()
    shutil.rmtree(archive.folder(record))
    archive.finish_interrupted_save(MODEL, PARTITION)
    assert archive.newest(MODEL, PARTITION) is None
    (archive.folder(record) / "seed_0").mkdir(parents=True)
    archive.finish_interrupted_save(MODEL, PARTITION)
    assert archive.newest(MODEL, PARTITION) is None, "a making that was killed left a part of it"


def test_an_interrupted_verification_goes_on_where_it_stopped(archive, tmp_path, monkeypatch):
    journal, read = tmp_path / "cache" / "journal", []
    from ecg_pipeline.provenance import hashing

    digest = hashing.sha256_file

    def counted(path):
        if len(read) == 20:
            raise KeyboardInterrupt
        read.append(path)
        return digest(path)

    monkeypatch.setattr(hashing, "sha256_file", counted)
    with pytest.raises(KeyboardInterrupt):
        verify(archive, Scope(), hasher=Hasher(journal))
    with journal.open("a") as file:
        file.write("1 2 3")
    first = set(read)
    read.clear()
    monkeypatch.setattr(hashing, "sha256_file", lambda path: (read.append(path), digest(path))[1])
    hasher = Hasher(journal)
    assert verify(archive, Scope(), hasher=hasher).findings == []
    assert not first & set(read)
    hasher.finish()
    assert not journal.exists()
    flip_byte(weights(archive))
    assert findings(archive)


def test_records_of_version_1_are_verified_and_audited(archive):
    path = record_file(archive)
    content = read_json(path)
    for name in (
        "version",
        "sizes",
        "checks",
        "environment",
        "command",
        "user",
        "peak_memory_bytes",
        "shown",
        "study_text",
    ):
        content.pop(name)
    for entry in content["upstream"]:
        del entry["record"]
        entry["data_version"] = entry["data_version"][:16]
    entries = tuple(entry for entry in read_record(path).upstream)
    short = tuple(replace(entry, data_version=entry.data_version[:16]) for entry in entries)
    content |= {
        "data_version": content["data_version"][:16],
        "code_version": content["code_version"][:16],
        "build": build_id(content["code_version"][:16], short)[:16],
    }
    archive.folder(read_record(path)).rename(archive.place(MODEL, PARTITION) / content["build"])
    old = path.with_name(f"{path.name.split('Z')[0]}Z-{content['build']}.json")
    path.unlink()
    for target in (old, archive.place(MODEL, PARTITION) / "record.json"):
        write_json(target, content)
    record = archive.require(MODEL, PARTITION)
    assert record.version == 1
    assert record.is_of(record.code_version, entries)
    records = lineage(archive, record).records
    assert {one.asset for one in records} == {
        one.asset for one in lineage(archive, archive.require(MODEL, "0.25")).records
    }
    assert findings(archive, records=records) == []
