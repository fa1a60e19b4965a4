"""An audit says everything that a model was made of, from files alone, and nothing that names a patient."""

import base64
import hashlib
import json
import re
import shutil

import polars as pl
import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.audit import audit
from ecg_pipeline.provenance.audit_page import audit_page, script
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.lineage import NotFound, find_output, lineage, output_name
from ecg_pipeline_tests.provenance.homes import small_home

MODEL, PARTITION = "low_lvef/heartbeit/finetuned_model", "1"


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return small_home(tmp_path_factory.mktemp("homes") / "demo")


@pytest.fixture(scope="module")
def model(archive):
    return archive.require(MODEL, PARTITION)


def run(archive, *arguments):
    """What a command prints."""
    done = CliRunner().invoke(app, [*arguments, "--home", str(archive.home)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def identifying(archive):
    """Everything in the tables of a home that stands for one patient, ECG or file."""
    found = set[str]()
    for path in archive.root.rglob("*.parquet"):
        table = pl.read_parquet(path)
        for name in ("patient", "ecg_id", "source", "source_sha256", "waveform_sha256"):
            if name in table.columns:
                found |= set(table[name].drop_nulls())
    return found


def test_every_record_upstream_is_there_once_in_the_order_of_making(archive, model):
    found = lineage(archive, model)
    names = [output_name(record) for record in found.records]
    assert names[-1] == f"{MODEL}@{PARTITION}"
    assert len(names) == len(set(names))
    assert {record.asset for record in found.records} == {
        "waveform_store",
        "clinical_labels",
        "image_shards",
        "heartbeit/pretrained_checkpoint",
        "low_lvef/cohort",
        MODEL,
    }
    for number, record in enumerate(found.records):
        for entry in record.upstream:
            upstream = found.record_of(entry)
            assert upstream in found.records[:number] or entry in found.sources
    assert {entry.asset for entry in found.sources} == {"raw_ecg_files"}
    assert found.missing == ()


def test_a_record_upstream_is_the_one_that_was_read_not_the_newest(archive, tmp_path):
    home = Archive(shutil.copytree(archive.home, tmp_path / "demo"))
    cohort = home.require("low_lvef/cohort", None)
    text = json.loads((home.place("low_lvef/cohort", None) / "record.json").read_text())
    newer = home.place("low_lvef/cohort", None) / "record.json"
    newer.write_text(json.dumps({**text, "user": "another", "ended_at": "2027-01-01T00:00:00.000+00:00"}))
    found = lineage(home, home.require(MODEL, PARTITION))
    assert next(record for record in found.records if record.asset == "low_lvef/cohort").digest == cohort.digest


def test_a_record_that_is_gone_is_missing(archive, tmp_path):
    home = Archive(shutil.copytree(archive.home, tmp_path / "demo"))
    shutil.rmtree(home.place("low_lvef/cohort", None) / "records")
    assert [entry.asset for entry in lineage(home, home.require(MODEL, PARTITION)).missing] == ["low_lvef/cohort"]


def test_an_output_is_found_by_each_of_its_names(archive, model, tmp_path):
    weights = tmp_path / "somewhere.safetensors"
    shutil.copy(archive.folder(model) / "seed_1" / "weights.safetensors", weights)
    names = [
        f"{MODEL}@{PARTITION}",
        model.digest,
        model.digest[:12],
        model.data_version[:16],
        model.mlflow_model_id,
        model.mlflow_run_id,
        str(weights),
    ]
    assert [find_output(archive, name).digest for name in names] == [model.digest] * len(names)
    pretrained = archive.require("heartbeit/pretrained_checkpoint", None)
    assert find_output(archive, pretrained.build[:12]).digest == pretrained.digest
    with pytest.raises(NotFound, match=r"belongs to several outputs: .*@0.25, .*@1; name one"):
        find_output(archive, model.build)
    page = archive.folder(archive.require("low_lvef/report", None)) / "report.html"
    assert find_output(archive, str(page)).asset == find_output(archive, "low_lvef/report").asset == "low_lvef/report"


def test_a_name_that_says_too_little_says_what_there_is(archive, tmp_path):
    unknown = tmp_path / "unknown.bin"
    unknown.write_bytes(b"?")
    for name, why in [
        (MODEL, f"has the partitions 0.25, 1: name one, such as {MODEL}@0.25"),
        ("low_lvef/heartbiet", "there is no output low_lvef/heartbiet .*there is clinical_labels, "),
        ("m-unknown", "no record knows m-unknown"),
        ("deadbeef", "no record knows deadbeef"),
        (str(unknown), "no record knows the file"),
    ]:
        with pytest.raises(NotFound, match=why):
            find_output(archive, name)


def test_patients_are_counted_as_the_tables_have_them(archive, model):
    found = {one.record.asset: one.people for one in audit(archive, model).audited}
    cohort = pl.read_parquet(archive.folder(archive.require("low_lvef/cohort", None)) / "cohort.parquet")
    counted = {(row.by["split"], row.by["site"]): row for row in found["low_lvef/cohort"]}
    assert set(counted) == set(cohort.select("split", "site").unique().iter_rows())
    for (split, site), row in counted.items():
        rows = cohort.filter(split=split, site=site)
        assert (row.ecgs, row.patients) == (len(rows), rows["patient"].n_unique())
        assert row.positives == rows["label"].sum()
    trained = [row for row in found[MODEL] if row.table == "trained_on.parquet"]
    assert sum(row.ecgs for row in trained) == cohort.filter(split="train").height


def test_looks_at_test_data_are_counted_by_the_ledger(archive, model, tmp_path):
    home = Archive(shutil.copytree(archive.home, tmp_path / "demo"))
    looks = {look.output: look.times for look in audit(home, model).looks}
    sites = ("mount_sinai", "beth_israel", "morningside")
    assert looks == {f"low_lvef/heartbeit/evaluation@1|{site}": 1 for site in sites}
    entry = next(e for e in home.ledger.entries() if e.facts.get("partition") == "1|morningside" and e.kind == "made")
    home.ledger.append((Kind.MADE, entry.facts))
    assert {look.output: look.times for look in audit(home, model).looks}[
        "low_lvef/heartbeit/evaluation@1|morningside"
    ] == 2


def test_a_moved_home_gives_the_same_answers(archive, model, tmp_path):
    moved = Archive(shutil.copytree(archive.home, tmp_path / "elsewhere"))
    name = f"{MODEL}@{PARTITION}"
    assert run(moved, "audit", name, "--json") == run(archive, "audit", name, "--json")
    assert run(moved, "audit", name) == run(archive, "audit", name)


def test_text_json_and_page_name_the_facts_and_no_patient(archive, model, tmp_path):
    name, page = f"{MODEL}@{PARTITION}", tmp_path / "audit.html"
    text, as_json = run(archive, "audit", name), run(archive, "audit", name, "--json")
    assert run(archive, "audit", name, "--html", str(page)).strip() == str(page)
    answers = text, as_json, page.read_text()
    for answer in answers:
        for fact in (
            model.digest,
            model.git_commit,
            "waveform_store",
            "raw_ecg_files",
            "low_lvef/heartbeit/evaluation",
        ):
            assert fact in answer
        assert not [one for one in identifying(archive) if one in answer]
    assert json.loads(as_json)["records"][-1]["identity"] == model.identity


def test_the_page_needs_no_network_and_escapes_what_it_shows(archive, model):
    found = audit(archive, model)
    found.studies[model.study]["title"] = "<script>alert(1)</script>"
    page = audit_page(found)
    assert "&lt;script&gt;alert(1)" in page
    assert not re.findall(r"(?:src|href)=\"(?!#)|url\(|@import", page)
    assert page.count("<script>") == 1
    assert f"<script>{script()}</script>" in page
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    inside = re.search(r"<script>(.*)</script>", page, re.S)[1]
    assert base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode() == digest


def test_a_build_that_was_purged_is_told(archive, model, tmp_path):
    home = Archive(shutil.copytree(archive.home, tmp_path / "demo"))
    shutil.rmtree(home.folder(home.require("low_lvef/cohort", None)))
    assert "the build of low_lvef/cohort is not here" in run(home, "audit", f"{MODEL}@{PARTITION}")


def test_a_home_that_holds_nothing_is_one_sentence(tmp_path):
    done = CliRunner().invoke(app, ["audit", "cohort", "--home", str(tmp_path)])
    assert done.exit_code == 2
    assert "nothing was materialised here" in done.output
