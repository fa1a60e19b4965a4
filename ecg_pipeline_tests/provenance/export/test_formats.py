"""What holds for every format: no patient in it, the same bytes again, errors that say what to do."""

import base64
import json
import shutil
import sys

import polars as pl
import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.export.formats import FOLDERS, FORMATS, SIGNED, WRITERS, ExportError, write_export
from ecg_pipeline.provenance.record import CUT
from ecg_pipeline_tests.provenance.export.conftest import MODEL
from ecg_pipeline_tests.provenance.homes import SITES

SECRETS = ("patient", "ecg_id", "source", "source_sha256", "waveform_sha256", "twin")
OUTPUTS = (
    "waveform_store@mount_sinai",
    "low_lvef/cohort",
    "heartbeit/pretrained_checkpoint",
    "low_lvef/heartbeit/finetuned_model@1",
    "low_lvef/heartbeit/evaluation@1|morningside",
    "low_lvef/report",
)


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def content(path):
    files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files}


@pytest.fixture(scope="session")
def secrets(archive):
    """Every pseudonym, ECG id, file name and digest of a single ECG in the home."""
    found = set()
    for path in archive.root.rglob("*.parquet"):
        table = pl.read_parquet(path)
        for column in SECRETS:
            found |= set(table[column].drop_nulls()) if column in table.columns else set()
    assert len(found) > 4 * sum(archive_patients(archive).values())
    return sorted(found)


def archive_patients(archive):
    folder = {site: archive.folder(archive.require("waveform_store", site)) for site in SITES}
    return {site: pl.read_parquet(folder[site] / "ecgs.parquet")["patient"].n_unique() for site in SITES}


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("form", FORMATS)
def test_no_patient_and_no_ecg_is_in_any_byte(archive, keys, secrets, form, output, tmp_path):
    out = tmp_path / "export"
    arguments = ("export", output, "--home", archive.home, "--format", form, "--out", out)
    done = run(*arguments, *(("--key", keys[0]) if form == SIGNED else ()))
    assert done.exit_code == 0, done.output
    written = content(out)
    assert {line.rsplit("/", 1)[-1] for line in done.output.split()} == {*written}
    texts = [*written.values(), done.output.encode()]
    for name, text in written.items() if form == SIGNED else ():
        envelope = json.loads(text)
        texts.append(base64.b64decode(envelope.get("dsseEnvelope", envelope)["payload"]))
        assert b"sha256" in texts[-1], name
    for secret in secrets:
        assert not any(secret.encode() in text for text in texts), secret
    for text in texts:
        assert str(archive.home).encode() not in text.replace(str(out).encode(), b"")


@pytest.mark.parametrize("form", WRITERS)
def test_a_moved_home_gives_the_same_bytes(archive, exported, form, tmp_path):
    moved = Archive(shutil.copytree(archive.home, tmp_path / "elsewhere" / "demo"))
    out = tmp_path / "again"
    write_export(moved, moved.require(*MODEL), form=form, out=out)
    again, once = content(out), content(exported(form))
    assert [*again.values()] == [*once.values()]


def test_a_statement_is_the_same_again_but_for_its_signature(archive, model, keys, exported, tmp_path):
    write_export(archive, model, form=SIGNED, out=tmp_path, key=keys[0])
    for name in ("provenance.intoto.json", "model.sig"):
        one, other = (json.loads((folder / name).read_text()) for folder in (tmp_path, exported(SIGNED)))
        assert one.get("dsseEnvelope", one)["payload"] == other.get("dsseEnvelope", other)["payload"]


def test_the_home_is_left_as_it_was(archive, exported):
    before = {path: path.stat().st_mtime_ns for path in archive.home.rglob("*")}
    for form in FORMATS:
        exported(form)
    assert {path: path.stat().st_mtime_ns for path in archive.home.rglob("*")} == before


def test_what_cannot_be_written_is_said(archive, model, keys, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    cases = [
        ("pdf", tmp_path / "out", None, "there is no format pdf; there are slsa, ro-crate"),
        (SIGNED, tmp_path / "out", None, "slsa is signed: name an ECDSA private key with --key"),
        ("prov", tmp_path / "out", keys[0], "prov is not signed: leave out --key"),
        ("prov", archive.home / "assets" / "prov.json", None, "is inside the home"),
        ("prov", tmp_path, None, "is a folder, and prov is written to a file"),
        ("ro-crate", file, None, "is a file, and ro-crate is written to a folder"),
    ]
    for form, out, key, why in cases:
        with pytest.raises(ExportError, match=why):
            write_export(archive, model, form=form, out=out, key=key)
    done = run(
        "export", "low_lvef/heartbeit/finetuned_model", "--home", archive.home, "--format", "prov", "--out", file
    )
    assert done.exit_code == 2
    assert "has the partitions 0.25, 1" in done.output


@pytest.mark.parametrize(
    ("form", "library"),
    [
        (SIGNED, "cryptography"),
        (SIGNED, "model_signing"),
        ("ro-crate", "rocrate"),
        ("croissant", "mlcroissant"),
        ("cyclonedx", "cyclonedx"),
        ("prov", "prov"),
        ("openlineage", "openlineage"),
    ],
)
def test_a_missing_library_is_named_with_the_extra(archive, keys, monkeypatch, form, library, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    key = ("--key", keys[0]) if form == SIGNED else ()
    arguments = ("--home", archive.home, "--format", form, "--out", tmp_path / "out", *key)
    done = run("export", "low_lvef/heartbeit/finetuned_model@1", *arguments)
    assert done.exit_code == 2
    assert "pip install 'ecg-pipeline[audit]'" in done.output
    assert not (tmp_path / "out" / "model.sig").exists()


@pytest.fixture
def first_version(archive, tmp_path):
    """The home as version 1 of the records wrote it: digests cut, upstream records and documents not named."""
    home = Archive(shutil.copytree(archive.home, tmp_path / "first"))
    later = ("version", "study_text", "sizes", "environment", "command", "user", "peak_memory_bytes", "mlflow_model_id")
    for path in [*home.root.rglob("records/*.json"), *home.root.rglob("record.json")]:
        stated = {name: value for name, value in json.loads(path.read_text()).items() if name not in later}
        stated["build"] = stated["build"][:CUT]
        for entry in stated["upstream"]:
            entry["data_version"] = entry["data_version"][:CUT]
            del entry["record"]
        path.write_text(json.dumps(stated))
    return home


@pytest.mark.parametrize("form", FORMATS)
def test_records_of_version_1_are_exported(first_version, keys, form, tmp_path):
    model = first_version.require(*MODEL)
    assert model.version == 1
    out = tmp_path / "export"
    write_export(first_version, model, form=form, out=out, key=keys[0] if form == SIGNED else None)
    cohort = first_version.require("low_lvef/cohort", None)
    text = b"".join(content(out).values())
    if form == SIGNED:
        text = base64.b64decode(json.loads((out / "provenance.intoto.json").read_text())["payload"])
    assert cohort.data_version.encode() in text or cohort.digest[:CUT].encode() in text


def test_folders_are_formats():
    assert {*FOLDERS} < {*FORMATS}
