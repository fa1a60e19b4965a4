"""Old builds that hold a patient are purged, which the ledger tells apart from what is missing."""

import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.trace import Subject, trace
from ecg_pipeline.provenance.withdraw import (
    CHECK,
    enter_withdrawal,
    erase_in_files,
    files_with,
    old_records,
    purge,
    purged_builds,
)
from ecg_pipeline_tests.provenance.outputs import ecgs, rejects, save_output

ANNA = Subject(patients=frozenset({"anna"}))


@pytest.fixture
def archive(tmp_path):
    """A store and a model of a patient, each made again without them, and an untouched store."""
    made = Archive(tmp_path)
    for at, rows in enumerate([[("anna", "a1"), ("bert", "b1")], [("bert", "b1")]], start=1):
        tables = {"ecgs.parquet": ecgs(*rows), "rejects.parquet": rejects()}
        store = save_output(made, "waveform_store", "north", tables=tables, at=at)
        trained_on = {"ecg_id": [ecg for _, ecg in rows], "patient": [patient for patient, _ in rows]}
        model = save_output(
            made, "hcm/cnn/finetuned_model", "1", tables={"trained_on.parquet": trained_on}, of=[store], at=at
        )
        save_output(made, "hcm/report", tables={"results.parquet": {"auroc": [0.5 + at / 10]}}, of=[model], at=at)
    save_output(
        made, "waveform_store", "south", tables={"ecgs.parquet": ecgs(("carl", "c1")), "rejects.parquet": rejects()}
    )
    return made


def test_old_builds_are_purged_and_their_records_stay(archive):
    found = trace(archive, ANNA)
    assert found.newest() == frozenset()
    records = old_records(archive, found)
    assert {record.asset for record in records} == {"waveform_store", "hcm/cnn/finetuned_model", "hcm/report"}
    purged = purge(archive, found, withdrawal="w1")
    assert purged == records
    assert not any(archive.folder(record).exists() for record in purged)
    assert purged_builds(archive) == {(one.asset, one.partition, one.build): "w1" for one in purged}
    assert {record.digest for record in purged} <= {record.digest for record in archive.all_records()}
    assert not trace(archive, ANNA).uses
    assert all(archive.folder(record).is_dir() for record in archive.newest_records())
    assert not list(archive.ledger.problems())


def test_builds_without_a_record_are_purged_too(archive):
    leftover = archive.build_folder("waveform_store", "north", "e" * 64)
    leftover.mkdir()
    (leftover / "ecgs.parquet").write_bytes(b"half a table")
    purge(archive, trace(archive, ANNA), withdrawal="w1")
    assert not leftover.exists()


def test_newest_outputs_are_flagged_and_never_purged(archive):
    bert = trace(archive, Subject(patients=frozenset({"bert"})))
    flagged = enter_withdrawal(archive, bert, withdrawal="w2")
    assert flagged == [("hcm/cnn/finetuned_model", "1"), ("waveform_store", "north")]
    entries = list(archive.ledger.entries())
    withdrawn = next(entry for entry in entries if entry.kind == Kind.WITHDRAWN)
    assert {one["asset"] for one in withdrawn.facts["outputs"]} >= {"hcm/report", "waveform_store"}
    assert "bert" not in str(withdrawn.facts)
    failed = [entry.facts["asset"] for entry in entries if entry.kind == Kind.CHECKED]
    assert failed == [asset for asset, _ in flagged]
    assert all(entry.facts["checks"][0]["name"] == CHECK for entry in entries if entry.kind == Kind.CHECKED)
    purge(archive, bert, withdrawal="w2")
    assert all(archive.folder(record).is_dir() for record in archive.newest_records())


def test_words_are_taken_out_of_files(tmp_path):
    log, other, held = tmp_path / "logs" / "run.err", tmp_path / "logs" / "other", tmp_path / "logs" / "a.db"
    log.parent.mkdir()
    log.write_bytes(b"\xff patient anna, anna")
    other.write_text("nobody")
    held.write_text("anna")
    assert set(files_with([log.parent], ["anna", "bert"])) == {log, held}
    assert erase_in_files([log.parent], ["anna", "bert"], databases=[held]) == 1
    assert log.read_bytes() == b"\xff patient withdrawn, withdrawn"
    assert files_with([log.parent], ["anna"]) == [held]
    assert files_with([log.parent], []) == []
