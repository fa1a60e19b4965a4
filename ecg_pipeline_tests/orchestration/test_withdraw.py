"""Patients who withdraw: exactly what is made of them is made again, and after the erasure nothing of them is left."""

import json
import os
import re
import sqlite3

import dagster as dg
import polars as pl
import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.withdrawals import Register
from ecg_pipeline.orchestration.assets import ingest
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.run_worker import execute
from ecg_pipeline.orchestration.runs import QUIET
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.withdraw import CHECK, purged_builds
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.ingest.test_withdrawals import export
from ecg_pipeline_tests.orchestration.conftest import open_runner
from ecg_pipeline_tests.orchestration.home_files import (
    Home,
    arrays_of,
    expected,
    files_naming,
    held_of,
    rebuilt,
    rows_below,
    shards_holding,
)
from ecg_pipeline_tests.orchestration.test_private_patients import STUDY

pytestmark = pytest.mark.acceptance  # each makes and remakes outputs of a copied home: minutes

SITES = ("mount_sinai", "beth_israel", "morningside")
SECRET = "a secret of this test alone"
KEY = PseudonymKey(SECRET.encode())
REJECTED = "77999123"
SITE = """\
  {name}:
    title: A hospital
    format: muse_xml
    path: {path}
    mrn_system: hospital_system
    label_tables: [echo_reports.csv, diagnoses.csv]
    role: {role}
    pretraining: {pretraining}
"""
ONE_MODEL = """\
name: private
title: Private patients
sites:
{sites}
split: {{test: 0.3, validation: 0.15}}
windows:
  ten_seconds: {{sampling_hz: 100, standardise: lead, short: pad}}
models:
  small_cnn: {{family: small_cnn, window: ten_seconds, widths: [4, 8]}}
tasks:
  hcm:
    title: Hypertrophic cardiomyopathy
    sites: [mount_sinai, beth_israel]
    external: [morningside]
    rule: {{kind: diagnosis, code: I42.1}}
fractions: [1.0]
finetuning: {{epochs: 1, batch: 8}}
evaluation: {{bootstrap_draws: 20}}
"""
DATA = ("waveform_store", "clinical_labels", "filtered_waveforms", "hcm/cohort")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Files of three private hospitals, one of them of a patient who has no other, and an environment to read them."""
    system = tmp_path / "hospitals"
    write_hospital_system(HospitalSystem(patients=120, ecgs=180, seed=3), system)
    (system / "mount_sinai" / "short.xml").write_text(export(REJECTED, 9, seconds=2))
    for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ECG_HOME", str(tmp_path / "homes"))
    monkeypatch.setenv("ECG_STUDY", str(tmp_path / "private.yaml"))
    monkeypatch.setenv("ECG_PSEUDONYM_KEY", SECRET)
    monkeypatch.setattr(ingest, "SETTLE_S", 0.0)
    return tmp_path


def write_study(folder, text):
    """A study of the hospitals, in shards of sixteen files."""
    sites = "".join(
        SITE.format(
            name=site,
            path=folder / "hospitals" / site,
            role="external" if site == "morningside" else "internal",
            pretraining=str(site != "morningside").lower(),
        )
        for site in SITES
    )
    path = folder / "private.yaml"
    path.write_text(text.format(sites=sites) + "ingest: {files_per_shard: 16}\n")
    return path, folder / "hospitals"


@pytest.fixture
def study(folder):
    """A study with every kind of output."""
    return write_study(folder, STUDY)


def withdraw(mrn, *options):
    """What the command prints. It reads the hospital's own identifier from its standard input."""
    return CliRunner().invoke(app, ["withdraw", "--patient", *options], input=f"{mrn}\n")


def materialise(study, assets):
    """A new process would read the register anew, and so does a new runner."""
    return open_runner(study).run_stale(assets)


def run_again(study, asset, partition):
    """How a run of one output ends, as it is asked for in the UI."""
    opened = open_runner(study)
    with open_instance(opened.workspace.home) as instance:
        run = Run((dg.AssetKey.from_user_string(asset),), partition)
        return execute(opened.definitions, instance, run=run, config=QUIET) or "success"


def mrns(system, site):
    """By pseudonym the hospital's own identifier of the patients in a site's files."""
    found = {}
    for path in (system / site).glob("*.xml"):
        if path.is_file() and (number := re.search(rb"<PatientID>(\d+)</PatientID>", path.read_bytes())):
            found[KEY.pseudonym("hospital_system", number[1].decode())] = number[1].decode()
    return found


def four_kinds(home, system):
    """A patient to pretrain on who is at two hospitals, one tested only, an external one, and one of rejects alone."""
    newest = home.newest()
    stores = {site: home.table(newest["waveform_store", site], "ecgs.parquet") for site in SITES}
    cohort = home.table(newest["hcm/cohort", None], "cohort.parquet")
    known = {pseudonym: mrn for site in SITES for pseudonym, mrn in mrns(system, site).items()}
    by_split = {
        split: set(cohort.filter(pl.col("split") == split)["patient"]) for split in ("train", "test", "external")
    }
    internal = [set(stores[site]["patient"].drop_nulls()) for site in ("mount_sinai", "beth_israel")]
    everywhere = internal[0] & internal[1]
    pretrained = sorted(by_split["train"] & everywhere) or sorted(by_split["train"])
    chosen = {
        "pretrained on": pretrained[0],
        "tested only": sorted(by_split["test"] - everywhere)[0],
        "external": sorted(by_split["external"])[0],
    }
    return {**{kind: known[patient] for kind, patient in chosen.items()}, "reject only": REJECTED}


def check_one(study, home, mrn, assets):
    """Withdraw a patient, materialise, and compare what was made again with what had to be."""
    patient, before = KEY.pseudonym("hospital_system", mrn), home.newest()
    ecg_ids, _ = held_of(home, patient)
    inodes = {place: home.inodes(record) for place, record in before.items()}
    told = withdraw(mrn)
    assert told.exit_code == 0, told.output
    assert mrn not in told.output
    assert materialise(study, assets)
    after = home.newest()
    made, changed = expected(before, patient, ecg_ids, after, home)
    assert rebuilt(before, after) == made
    for place in made & {place for place in before if place[0] in ("waveform_store", "filtered_waveforms")}:
        held = shards_holding(home, before[place], patient, ecg_ids)
        same = {shard for shard, files in home.inodes(after[place]).items() if files == inodes[place][shard]}
        assert same == set(inodes[place]) - held, place
    assert not [place for place, record in after.items() if home.holds(record, patient, ecg_ids)]
    assert changed
    return made


def test_each_kind_of_patient_is_taken_out_of_the_data_and_erased(study):
    path, system = study
    runner = open_runner(path)
    assert runner.run_stale(DATA)
    home = Home(runner.workspace.home)
    patients = four_kinds(home, system)
    held = {kind: held_of(home, KEY.pseudonym("hospital_system", mrn)) for kind, mrn in patients.items()}
    arrays = {array.tobytes() for ecg_ids, _ in held.values() for array in arrays_of(home, ecg_ids)}
    assert len(arrays) >= 6
    assert arrays & set(rows_below(home.assets))
    assert not held["reject only"][0]
    assert "did not withdraw" in withdraw(patients["external"], "--erase").output
    made = {kind: check_one(path, home, mrn, DATA) for kind, mrn in patients.items()}
    assert {site for asset, site in made["external"] if asset == "waveform_store"} == {"morningside"}
    assert {site for asset, site in made["reject only"] if asset == "waveform_store"} == {"mount_sinai"}
    assert materialise(path, DATA) == []
    for mrn in patients.values():
        told = withdraw(mrn, "--erase", "--json")
        assert told.exit_code == 0, told.output
        assert json.loads(told.output)["left_in"] == []
    words = {word for ecg_ids, digests in held.values() for word in (*ecg_ids, *digests)}
    words |= {KEY.pseudonym("hospital_system", mrn) for mrn in patients.values()} | set(patients.values())
    assert files_naming(runner.workspace.home, words) == []
    assert not arrays & set(rows_below(home.assets))
    assert set(purged_builds(runner.workspace.archive).values()) == {
        one.withdrawal for one in Register(runner.workspace.home).withdrawals()
    }
    assert not list(runner.workspace.archive.ledger.problems())
    assert materialise(path, DATA) == []


def test_erasure_waits_for_the_next_materialisation_and_a_late_file_is_a_reject(study):
    path, system = study
    runner = open_runner(path)
    assert runner.run_stale(["waveform_store"], ["morningside"])
    home = Home(runner.workspace.home)
    pseudonym, mrn = sorted(mrns(system, "morningside").items())[0]
    assert withdraw(mrn).exit_code == 0
    refused = withdraw(mrn, "--erase")
    assert refused.exit_code == 2
    assert "newest outputs still hold them" in refused.output
    with open_instance(runner.workspace.home) as instance:
        check = dg.AssetCheckKey(dg.AssetKey("waveform_store"), CHECK)
        newest, *_ = instance.event_log_storage.get_asset_check_execution_history(check, limit=5)
        assert newest.status.value == "FAILED"
    assert ("waveform_store", "morningside", CHECK) in failed_checks(runner.workspace.home)
    stranger = withdraw("70000001")
    assert "No newest output holds them" in stranger.output
    (system / "morningside" / "late.xml").write_text(export("70000001", 77))
    assert materialise(path, ["waveform_store"])
    rejects = home.table(home.newest()["waveform_store", "morningside"], "rejects.parquet")
    assert rejects.filter(pl.col("reason") == "withdrawn")["patient"].to_list().count(None) >= 2
    told = withdraw(mrn, "--erase")
    assert told.exit_code == 0, told.output
    assert files_naming(runner.workspace.home, [pseudonym, mrn, "70000001"]) == []


def failed_checks(home):
    """Asset, partition and name of the failed checks in the ledger."""
    lines = (home / "provenance" / "ledger.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return {
        (entry["facts"]["asset"], entry["facts"]["partition"], check["name"])
        for entry in entries
        if entry["kind"] == Kind.CHECKED
        for check in entry["facts"]["checks"]
        if not check["passed"]
    }


def test_a_model_that_saw_a_patient_fails_its_check_until_it_is_trained_again(folder):
    path, system = write_study(folder, ONE_MODEL)
    asked, model = ["+hcm/small_cnn/evaluation"], ("hcm/small_cnn/finetuned_model", "1")
    runner = open_runner(path)
    assert runner.run_stale(asked)
    home = Home(runner.workspace.home)
    mrn = four_kinds(home, system)["pretrained on"]
    patient, before = KEY.pseudonym("hospital_system", mrn), home.newest()
    ecg_ids, digests = held_of(home, patient)
    told = CliRunner().invoke(app, ["trace", "--patient", "--json", "--out", str(folder / "out")], input=f"{mrn}\n")
    found = {(use["asset"], use["partition"], use["how"]) for use in json.loads(told.output)["uses"]}
    assert (*model, "trained on") in found
    waveforms = {path.stem for path in (folder / "out" / "waveforms").rglob("*.csv")}
    assert waveforms == ecg_ids
    handed = [file.read_bytes() for file in (folder / "out").rglob("*") if file.is_file()]
    others = {other for site in SITES for other in mrns(system, site)} - {patient}
    assert not [word for word in (*others, mrn) if any(word.encode() in content for content in handed)]
    assert withdraw(mrn).exit_code == 0
    assert (*model, CHECK) in failed_checks(runner.workspace.home)
    assert ("hcm/small_cnn/evaluation", "1|morningside", CHECK) in failed_checks(runner.workspace.home)
    assert CHECK in run_again(path, *model)
    assert materialise(path, asked)
    after = home.newest()
    assert rebuilt(before, after) == expected(before, patient, ecg_ids, after, home)[0]
    assert model in rebuilt(before, after)
    assert not [place for place, record in after.items() if home.holds(record, patient, ecg_ids)]
    told = withdraw(mrn, "--erase")
    assert told.exit_code == 0, told.output
    assert files_naming(runner.workspace.home, {patient, mrn, *ecg_ids, *digests}) == []
    old, new = before[model], after[model]
    names = {one.name for one in (runner.workspace.home / "mlflow").rglob("*")}
    assert old["mlflow_model_id"] not in names
    assert new["mlflow_model_id"] in names
    assert purged_builds(runner.workspace.archive)[(*model, old["build"])]
    assert materialise(path, asked) == []


def test_models_that_saw_them_are_flagged_made_again_and_erased_with_their_copies_in_mlflow(study):
    path, system = study
    runner = open_runner(path)
    assert runner.run_stale()
    home = Home(runner.workspace.home)
    patients = four_kinds(home, system)
    held = {kind: held_of(home, KEY.pseudonym("hospital_system", mrn)) for kind, mrn in patients.items()}
    arrays = {array.tobytes() for ecg_ids, _ in held.values() for array in arrays_of(home, ecg_ids)}
    pictures = {picture.read_bytes() for picture in home.assets.rglob("*.png")}
    before, made = home.newest(), set()
    for mrn in patients.values():
        assert withdraw(mrn).exit_code == 0
    for asset in ("heartbeit/pretrained_checkpoint", "image_tokenizer"):
        assert (asset, None, CHECK) in failed_checks(runner.workspace.home)
    assert CHECK in run_again(path, "heartbeit/pretrained_checkpoint", None)
    assert materialise(path, ["*"])
    after = home.newest()
    made = rebuilt(before, after)
    union = set[tuple[str, str | None]]()
    for mrn, (ecg_ids, _) in zip(patients.values(), held.values(), strict=True):
        patient = KEY.pseudonym("hospital_system", mrn)
        union |= expected(before, patient, ecg_ids, after, home)[0]
        assert not [place for place, record in after.items() if home.holds(record, patient, ecg_ids)]
    assert made == union
    for mrn in patients.values():
        told = withdraw(mrn, "--erase")
        assert told.exit_code == 0, told.output
    words = {word for ecg_ids, digests in held.values() for word in (*ecg_ids, *digests)}
    words |= {KEY.pseudonym("hospital_system", mrn) for mrn in patients.values()} | set(patients.values())
    assert files_naming(runner.workspace.home, words) == []
    assert not arrays & set(rows_below(home.assets))
    kept = {picture.read_bytes() for picture in home.assets.rglob("*.png")}
    shown = [row for record in after.values() for row in home.folder(record).rglob("shares.parquet")]
    assert shown
    assert kept != pictures
    old = {record["mlflow_run_id"] for place, record in before.items() if place in made} - {None}
    names = [str(one) for one in (runner.workspace.home / "mlflow").rglob("*")]
    assert not [name for name in names for run in old if run in name]
    with sqlite3.connect(runner.workspace.home / "mlflow" / "mlflow.db") as database:
        assert not old & {run for (run,) in database.execute("select run_uuid from runs")}
    models = {record["mlflow_model_id"] for record in after.values()} - {None}
    stored = {one.name for one in (runner.workspace.home / "mlflow").rglob("m-*") if one.is_dir()}
    assert stored == models
    assert materialise(path, ["*"]) == []
    assert os.environ["ECG_PSEUDONYM_KEY"] == SECRET
