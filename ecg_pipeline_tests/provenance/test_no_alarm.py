"""What was only moved, pruned, interrupted or run again is no finding, nor is what an older version wrote."""

import os
import shutil
import subprocess
from dataclasses import replace

import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.provenance.record import build_id, read_record
from ecg_pipeline.provenance.verify import Scope, verify
from ecg_pipeline.storage.files import read_json, write_json
from ecg_pipeline_tests.provenance.altering import (
    MODEL,
    PARTITION,
    findings,
    flip_byte,
    made_again,
    record_file,
    weights,
)


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
