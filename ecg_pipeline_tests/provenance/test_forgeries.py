"""Forgeries in which every digest is right are found by who has a checkpoint of the ledger."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from ecg_pipeline.provenance.ledger import Head, Kind
from ecg_pipeline.provenance.record import build_id, content_version
from ecg_pipeline.storage.files import folder_digests, write_json
from ecg_pipeline_tests.provenance.altering import (
    EVALUATION,
    edit,
    findings,
    flip_byte,
    made_again,
    weights,
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
