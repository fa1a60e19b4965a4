"""The command line says in words what is wrong, and where."""

from dataclasses import replace

import polars as pl
import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.ingest.drop_folder import list_files
from ecg_pipeline.ingest.pseudonyms import load_key
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.study import built_in_studies, drop_folder, load_study, study_home
from ecg_pipeline.synthetic.hospital import write_hospital_system
from ecg_pipeline_tests.orchestration.conftest import SMALL
from ecg_pipeline_tests.provenance.test_record import RECORD


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", built_in_studies())
def test_built_in_studies_are_checked(name):
    result = run("study", "check", name)
    assert result.exit_code == 0
    assert "fingerprint" in result.output


def test_a_wrong_study_is_told_with_its_line(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text("extends: demo\nfilters:\n  low_khz: 1\n")
    result = run("study", "check", str(path))
    assert result.exit_code == 2
    assert "s.yaml:3: filters.low_khz: no such key" in result.output


def test_a_study_without_its_data_says_which_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ECG_STUDY", "heartbeit")
    monkeypatch.setenv("ECG_DATA", str(tmp_path))
    result = run("materialize")
    assert result.exit_code == 2
    assert "sites.mount_sinai.path: there is no folder" in result.output
    monkeypatch.delenv("ECG_DATA")
    assert "uses an environment variable that is not set" in run("materialize").output


def test_no_report_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    monkeypatch.setenv("ECG_STUDY", "demo")
    result = run("report")
    assert result.exit_code == 2
    assert "There is no report yet" in result.output


def test_rejects_of_a_private_site_are_named_on_the_terminal_alone(tmp_path, monkeypatch):
    path = tmp_path / "private.yaml"
    private = ", ".join(f"{site}: {{patients: private}}" for site in ("mount_sinai", "beth_israel", "morningside"))
    path.write_text(SMALL.replace("name: small", f"name: private\nsites: {{{private}}}"))
    monkeypatch.setenv("ECG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ECG_STUDY", str(path))
    monkeypatch.setenv("ECG_PSEUDONYM_KEY", "a secret of some length")
    assert "was not read yet" in run("rejects", "mount_sinai").output
    assert "There is no site mountsinai" in run("rejects", "mountsinai").output
    study = load_study(path)
    write_hospital_system(study.synthetic, study_home(study) / "hospital_system")
    drop, archive = drop_folder(study, "mount_sinai"), Archive(study_home(study))
    record = replace(RECORD, asset="waveform_store", partition="mount_sinai")
    key, out = load_key(study_home(study)), archive.folder(record)
    ingest_site(drop, list_files(drop), recipe=study.ingest, key=key, out=out)
    archive.save(record)
    shown = run("rejects", "mount_sinai")
    assert shown.exit_code == 0
    files = {path.name for path in drop.path.iterdir()}
    assert len([name for name in files if name in shown.output]) > 10
    tables = [pl.read_parquet(path) for path in archive.root.rglob("*.parquet")]
    written = str([table.rows() for table in tables])
    assert len(tables) >= 2
    assert not [name for name in files if name in written]
