"""Every table that has a patient is found, of whatever output, and what was made of the outputs that saw them."""

import json
import shutil

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.trace import Subject, condition, trace
from ecg_pipeline_tests.provenance.outputs import ecgs, rejects, save_output

NOBODY = rejects()


@pytest.fixture
def archive(tmp_path):
    """A store of two patients, a view, a cohort, two models, an evaluation and a page."""
    made = Archive(tmp_path / "home")
    store = save_output(
        made,
        "waveform_store",
        "north",
        tables={
            "ecgs.parquet": ecgs(("anna", "a1"), ("anna", "a2"), ("bert", "b1")),
            "rejects.parquet": rejects(("anna", "a3.xml", "too_short"), (None, "x.xml", "empty_file")),
        },
    )
    view = {"ecg_id": ["a1", "a2", "b1"], "shard": [0, 0, 0], "row": [0, 1, 2]}
    save_output(made, "image_shards", "north", tables={"index.parquet": view}, of=[store])
    cohort = {"ecg_id": ["a1", "b1"], "patient": ["anna", "bert"], "split": ["train", "test"]}
    cohort = save_output(made, "hcm/cohort", tables={"cohort.parquet": cohort}, of=[store])
    of_anna = {"ecg_id": ["a1"], "site": ["north"], "patient": ["anna"], "waveform_sha256": ["waveform of a1"]}
    model = save_output(
        made,
        "hcm/cnn/finetuned_model",
        "0.5",
        tables={"trained_on.parquet": of_anna, "pretrained_on/network.parquet": of_anna},
        of=[cohort],
    )
    of_bert = {"ecg_id": ["b1"], "patient": ["bert"], "score": [0.5]}
    tested = save_output(made, "hcm/cnn/evaluation", "0.5|north", tables={"predictions.parquet": of_bert}, of=[model])
    save_output(made, "hcm/report", tables={"results.parquet": {"auroc": [0.7]}}, of=[tested])
    save_output(made, "other/odd_family", tables={"what.parquet": {"waveform_sha256": ["waveform of a2"]}}, of=[store])
    return made


def uses(found):
    return {(use.asset, use.table, use.how, use.ecgs) for use in found.uses}


def test_every_table_that_holds_a_patient_is_found(archive):
    found = trace(archive, Subject(patients=frozenset({"anna"})))
    assert uses(found) == {
        ("waveform_store", "ecgs.parquet", "stored", 2),
        ("waveform_store", "rejects.parquet", "rejected", 1),
        ("image_shards", "index.parquet", "holds", 2),
        ("hcm/cohort", "cohort.parquet", "in the cohort", 1),
        ("hcm/cnn/finetuned_model", "trained_on.parquet", "trained on", 1),
        ("hcm/cnn/finetuned_model", "pretrained_on/network.parquet", "pretrained on", 1),
        ("other/odd_family", "what.parquet", "holds", 1),
    }
    assert {made.asset for made in found.made_from} == {"hcm/cnn/evaluation", "hcm/report"}
    assert all(use.is_newest for use in found.uses)
    by_asset = {use.asset: use for use in found.uses}
    assert by_asset["hcm/cohort"].splits == {"train": 1}
    assert by_asset["hcm/cnn/finetuned_model"].partition == "0.5"
    assert [use.reasons for use in found.uses if use.how == "rejected"] == [{"too_short": 1}]
    assert {"anna", "a1", "a2", "waveform of a1"} <= set(found.subject.values())


def test_a_patient_who_was_tested_only_is_in_no_model(archive):
    found = trace(archive, Subject(patients=frozenset({"bert"})))
    assert {(use.asset, use.how) for use in found.uses} == {
        ("waveform_store", "stored"),
        ("image_shards", "holds"),
        ("hcm/cohort", "in the cohort"),
        ("hcm/cnn/evaluation", "tested on"),
    }
    assert {made.asset for made in found.made_from} == {"hcm/report"}


def test_one_ecg_and_one_file_are_found_without_the_rest_of_the_patient(archive):
    of_ecg = trace(archive, Subject(ecg_ids=frozenset({"a2"})))
    of_file = trace(archive, Subject(contents=frozenset({"file of a2"})))
    assert {use.asset for use in of_ecg.uses} == {"waveform_store", "image_shards", "other/odd_family"}
    assert uses(of_ecg) == uses(of_file)
    rejected = trace(archive, Subject(sources=frozenset({("north", "a3.xml")})))
    assert [(use.how, use.reasons) for use in rejected.uses] == [("rejected", {"too_short": 1})]
    assert not trace(archive, Subject(sources=frozenset({("south", "a3.xml")}))).uses


def test_older_builds_are_found_and_told_apart_from_the_newest(archive):
    tables = {"ecgs.parquet": ecgs(("bert", "b1")), "rejects.parquet": NOBODY}
    save_output(archive, "waveform_store", "north", tables=tables, at=2)
    found = trace(archive, Subject(patients=frozenset({"anna"})))
    assert {use.is_newest for use in found.uses if use.asset == "waveform_store"} == {False}
    assert ("waveform_store", "north") not in found.newest()
    old = next(use for use in found.uses if use.asset == "waveform_store")
    shutil.rmtree(archive.build_folder(old.asset, old.partition, old.build))
    found = trace(archive, Subject(patients=frozenset({"anna"})))
    assert {use.asset for use in found.uses} == {"hcm/cohort", "hcm/cnn/finetuned_model"}


def test_ecgs_that_only_repeat_others_are_found_in_the_tables_of_their_shards(archive):
    tables = {
        "ecgs.parquet": ecgs(("bert", "b1")),
        "rejects.parquet": rejects(("carl", "c1.xml", "duplicate_waveform")),
        "tables/shard_00003/ecgs.parquet": ecgs(("bert", "b1"), ("carl", "c1"), shard=3),
    }
    save_output(archive, "waveform_store", "south", tables=tables)
    found = trace(archive, Subject(patients=frozenset({"carl"})))
    assert uses(found) == {("waveform_store", "rejects.parquet", "rejected", 1)}
    assert found.subject.ecg_ids == {"c1"}
    assert found.subject.shards["south"] == {3}


def test_a_table_that_cannot_be_read_is_named(archive):
    path = next(archive.root.glob("hcm/cohort/all/*/cohort.parquet"))
    path.write_bytes(b"no table")
    assert trace(archive, Subject(patients=frozenset({"anna"}))).unreadable == (str(path),)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=8), st.sampled_from("abc"))
def test_the_rows_that_are_found_are_those_of_the_patient(rows, patient):
    table = pl.DataFrame(
        {"patient": [one for one, _ in rows], "ecg_id": [ecg for _, ecg in rows]}, schema=["patient", "ecg_id"]
    )
    table = table.cast(pl.String)
    wanted = condition(table.columns, Subject(patients=frozenset({patient})))
    assert table.filter(wanted).rows() == [row for row in rows if row[0] == patient]


def test_the_command_tells_people_and_machines(archive, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    home = ["--home", str(archive.home)]
    told = CliRunner().invoke(app, ["trace", "--pseudonym", "anna", *home])
    assert told.exit_code == 0, told.output
    assert "trained on" in told.output
    facts = json.loads(CliRunner().invoke(app, ["trace", "--ecg", "b1", "--json", *home]).output)
    assert {use["asset"] for use in facts["uses"]} >= {"hcm/cnn/evaluation", "image_shards"}
    assert CliRunner().invoke(app, ["trace", *home]).exit_code == 2
    assert "No stored output" in CliRunner().invoke(app, ["trace", "--pseudonym", "nobody", *home]).output
    inside = CliRunner().invoke(app, ["trace", "--pseudonym", "anna", "--out", str(archive.home / "x"), *home])
    assert inside.exit_code == 2
