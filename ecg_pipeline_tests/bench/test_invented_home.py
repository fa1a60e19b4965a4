"""The home on which audits are timed is one that they can be made of: whole, traceable, and as a pipeline writes it."""

import polars as pl
import pytest

from ecg_pipeline.bench import audit as bench
from ecg_pipeline.bench.invented_home import FRACTIONS, MODELS, TASKS, home_of_files, invented_home
from ecg_pipeline.ingest.store import ECG_SCHEMA, REJECT_SCHEMA
from ecg_pipeline.provenance.audit import audit
from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.trace import PRETRAINED, REJECTED, STORED, TESTED, TRAINED, Subject, trace
from ecg_pipeline.provenance.verify import Scope, verify
from ecg_pipeline.storage.files import ROW_GROUP

ECGS = 5_000
SITES = {"mount_sinai": 0.7, "morningside": 0.3}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return invented_home(tmp_path_factory.mktemp("homes") / "home", ECGS, SITES)


def table(archive, asset, partition, name):
    return archive.folder(archive.require(asset, partition)) / name


def test_it_verifies_without_findings(archive):
    for quick in (False, True):
        found = verify(archive, Scope(quick=quick), hasher=Hasher())
        assert found.findings == found.notes == []
    models = len(TASKS) * len(MODELS) * len(FRACTIONS)
    assert sum(record.asset.endswith("/finetuned_model") for record in archive.all_records()) == models
    assert sum(record.asset.endswith("/evaluation") for record in archive.all_records()) == models * len(SITES)


def test_it_is_the_same_each_time(archive, tmp_path):
    again = invented_home(tmp_path / "home", ECGS, SITES)
    assert [record.data_version for record in again.all_records()] == [
        record.data_version for record in archive.all_records()
    ]


def test_the_stores_tables_are_real(archive):
    for site, share in SITES.items():
        path = table(archive, "waveform_store", site, "ecgs.parquet")
        ecgs = pl.read_parquet(path)
        assert dict(ecgs.schema) == ECG_SCHEMA
        assert pl.read_parquet_schema(path.with_name("rejects.parquet")) == REJECT_SCHEMA
        assert ecgs["ecg_id"].n_unique() == ecgs["waveform_sha256"].n_unique() == len(ecgs)
        assert len(ecgs) == pytest.approx(share * ECGS, rel=0.01)
        assert len(ecgs) < ROW_GROUP
        lengths = {"ecg_id": 16, "patient": 32, "source_sha256": 64, "waveform_sha256": 64}
        assert {name: set(ecgs[name].str.len_bytes()) for name in lengths} == {n: {k} for n, k in lengths.items()}
        shards = pl.read_parquet(path.parent / "tables" / "*" / "ecgs.parquet")
        assert set(ecgs["ecg_id"]) < set(shards["ecg_id"])


def test_a_patient_is_traced_to_what_the_tables_say(archive):
    trained, repeated = bench.patients(archive.home)
    found = trace(archive, Subject(patients=frozenset({trained})))
    assert {use.how for use in found.uses} >= {STORED, TRAINED, PRETRAINED}
    assert TESTED not in {use.how for use in found.uses}
    stores = [pl.read_parquet(table(archive, "waveform_store", site, "ecgs.parquet")) for site in SITES]
    stored = sum(use.ecgs for use in found.uses if use.how == STORED)
    assert stored == sum(store.filter(patient=trained).height for store in stores) > 0
    found = trace(archive, Subject(patients=frozenset({repeated})))
    assert REJECTED in {use.how for use in found.uses}


def test_an_audit_counts_the_ecgs_of_every_site(archive):
    found = audit(archive, archive.require(bench.MODEL, "1"))
    counted = {
        row.by["site"]: row.ecgs
        for one in found.audited
        for row in one.people or ()
        if one.record.asset == "waveform_store" and row.table == "ecgs.parquet"
    }
    assert sum(counted.values()) == pytest.approx(ECGS, rel=0.01)
    assert len(found.looks) == len(SITES)


def test_a_command_is_measured(archive):
    (cost,) = bench.costs(["verify", "--quick"], archive.home, repeats=1)
    assert cost.seconds > 0.1
    assert cost.processor_s > 0.1
    assert cost.peak_mb > 20


def test_a_command_that_finds_something_is_no_measurement(tmp_path):
    archive = home_of_files(tmp_path / "home", [10, 20])
    assert bench.costs(["verify"], archive.home, repeats=0) == []
    next(archive.root.rglob("shard_00001/c/0/0/0")).write_bytes(b"other")
    with pytest.raises(RuntimeError, match="ended with status 1"):
        bench.costs(["verify"], archive.home, repeats=0)
