"""The command line says in words what is wrong, and where."""

import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app


def run(*arguments):
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize("name", ["demo", "heartbeit", "ptb_xl", "ptb_xl_small"])
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
    assert "names an environment variable that is not set" in run("materialize").output


def test_no_report_yet(tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    monkeypatch.setenv("ECG_STUDY", "demo")
    result = run("report")
    assert result.exit_code == 2
    assert "There is no report yet" in result.output
