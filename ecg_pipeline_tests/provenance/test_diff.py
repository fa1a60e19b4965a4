"""Two outputs are compared field by field, study line by study line, patient by patient, from files alone."""

import json

import polars as pl
import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.diff import Change, PatientCounts, changes, compare
from ecg_pipeline.provenance.record import Upstream
from ecg_pipeline_tests.provenance.made import made

ONE = {"revision": 1, "recipe": {"epochs": 2, "seeds": [0, 1]}}
OTHER = {"revision": 1, "recipe": {"epochs": 3, "seeds": [0, 1]}}


def patients(*names, split=None):
    table = pl.DataFrame({"ecg_id": [f"e{n}" for n in range(len(names))], "patient": names})
    return table if split is None else table.with_columns(split=pl.Series(split))


def line(archive, files="1", *, identity=ONE, train="ab", minute=0, **more):
    """A model, its cohort and the store behind them, made of some files."""
    raw = Upstream("raw_ecg_files", "north", files * 64)
    store = made(archive, "waveform_store", "north", upstream=[raw], minute=minute)
    splits = ["train"] * len(train) + ["test", "test"]
    cohort = {"cohort.parquet": patients(*train, "y", None, split=splits)}
    cohort = made(archive, "hcm/cohort", upstream=[store], files=cohort, minute=minute + 1)
    trained = {"trained_on.parquet": patients(*train), "weights": repr(identity).encode()}
    return made(
        archive,
        "hcm/cnn/finetuned_model",
        "1",
        upstream=[cohort],
        identity=identity,
        files=trained,
        minute=minute + 2,
        **more,
    )


def test_an_output_does_not_differ_from_itself(tmp_path):
    archive = Archive(tmp_path)
    model = line(archive)
    found = compare(archive, model, model)
    assert not found.record
    assert not found.causes
    assert not found.study
    assert {(one.only_a, one.only_b) for one in found.patients} == {(0, 0)}


def test_a_changed_setting_is_named_by_its_path_and_is_where_the_lineages_differ(tmp_path):
    archive = Archive(tmp_path)
    a, b = line(archive), line(archive, identity=OTHER, minute=10)
    found = compare(archive, a, b)
    assert found.record["settings"] == (Change("recipe.epochs", 2, 3),)
    assert [of.output for of in found.causes] == ["hcm/cnn/finetuned_model@1"]
    assert found.causes[0].reasons == ("recipe.epochs: 2 → 3",)


def test_changed_files_are_found_behind_everything_that_was_made_of_them(tmp_path):
    archive = Archive(tmp_path)
    a, b = line(archive), line(archive, "2", train="bcd", minute=10)
    found = compare(archive, a, b)
    assert [of.output for of in found.causes] == ["waveform_store@north"]
    assert found.causes[0].reasons == (f"raw_ecg_files@north: {'1' * 64} → {'2' * 64}",)
    assert [one.field for one in found.record["upstream"]] == ["hcm/cohort"]
    counted = {(one.table, one.split): (one.only_a, one.only_b, one.both) for one in found.patients}
    assert counted == {
        ("cohort.parquet", "train"): (1, 2, 1),
        ("cohort.parquet", "test"): (0, 0, 1),
        ("trained_on.parquet", None): (1, 2, 1),
    }


def test_other_files_from_the_same_inputs_are_told_with_what_else_had_changed(tmp_path):
    archive = Archive(tmp_path)
    a = made(archive, "image_tokenizer", files={"weights": b"1"})
    packages = {"python": "3.12"}
    b = made(archive, "image_tokenizer", files={"weights": b"2"}, packages=packages, git_commit="c" * 40, minute=5)
    found = compare(archive, a, b)
    assert a.build == b.build
    (reason,) = found.causes[0].reasons
    assert reason == f"other files from the same inputs: git_commit None → {'c' * 40}, python 3.11 → 3.12"


def test_upstream_of_one_alone_is_named(tmp_path):
    archive = Archive(tmp_path)
    cohort, network = made(archive, "hcm/cohort"), made(archive, "beit/pretrained_checkpoint")
    a = made(archive, "hcm/beit/finetuned_model", "1", upstream=[cohort, network])
    b = made(archive, "hcm/cnn/finetuned_model", "1", upstream=[cohort])
    found = compare(archive, a, b)
    assert (found.only_a, found.only_b) == (("beit/pretrained_checkpoint",), ())
    assert found.causes[-1].output == "hcm/beit/finetuned_model@1 and hcm/cnn/finetuned_model@1"
    assert found.causes[-1].reasons == (
        "asset: hcm/beit/finetuned_model → hcm/cnn/finetuned_model",
        "beit/pretrained_checkpoint is upstream of A only",
    )


def test_two_partitions_of_the_same_inputs_differ_by_their_partition(tmp_path):
    archive = Archive(tmp_path)
    cohort = made(archive, "hcm/cohort")
    a, b = (
        made(archive, "hcm/cnn/finetuned_model", key, upstream=[cohort], files={"weights": key.encode()})
        for key in ("0.5", "1")
    )
    assert a.build == b.build
    (cause,) = compare(archive, a, b).causes
    assert cause.reasons == ("partition: 0.5 → 1",)


def test_packages_come_from_the_whole_environment_and_studies_are_compared_by_line(tmp_path):
    archive = Archive(tmp_path)
    save = archive.documents.save
    environments = [save({"lock_sha256": lock, "packages": {"rich": version}}) for lock, version in ("ab", "cd")]
    studies = [save({"name": "s", "split": {"seed": seed}, "tasks": ["hcm"]}) for seed in (1, 2)]
    a, b = (
        made(archive, "hcm/cohort", identity={"n": n}, environment=environments[n], study_text=studies[n], minute=n)
        for n in (0, 1)
    )
    found = compare(archive, a, b)
    assert found.record["packages"] == (Change("rich", "b", "d"),)
    assert Change("lock_sha256", "a", "c") in found.record["code"]
    assert "-  seed: 1" in found.study
    assert "+  seed: 2" in found.study


def test_a_build_that_was_removed_is_named_and_the_rest_is_compared(tmp_path):
    archive = Archive(tmp_path)
    a, b = line(archive), line(archive, identity=OTHER, minute=10)
    for path in archive.folder(a).iterdir():
        path.unlink()
    archive.folder(a).rmdir()
    found = compare(archive, a, b)
    assert found.unread == (f"hcm/cnn/finetuned_model@1 {a.build}",)
    assert PatientCounts("hcm/cnn/finetuned_model@1", "trained_on.parquet", None, 0, 2, 0) in found.patients
    assert found.record["settings"]


@pytest.mark.parametrize(
    ("a", "b", "fields"),
    [
        ({"x": [1, 2]}, {"x": [1, 3]}, {"x.1"}),
        ({"x": {"y": 1}}, {"x": {"z": 1}}, {"x.y", "x.z"}),
        ({"x": {}}, {"x": {"y": 1}}, {"x", "x.y"}),
        ({"x": 1, "same": {"y": None}}, {"x": True, "same": {"y": None}}, {"x"}),
        ({"x": 1}, {"x": 1.0}, {"x"}),
        ({"x": None}, {}, {"x"}),
    ],
)
def test_fields_are_dotted_paths(a, b, fields):
    assert {one.field for one in changes(a, b)} == fields


def test_the_command_prints_text_and_json_of_a_home_anywhere(tmp_path):
    archive = Archive(tmp_path / "moved")
    a, b = line(archive), line(archive, "2", train="bc", identity=OTHER, minute=10)
    arguments = ["diff", a.build[:12], "hcm/cnn/finetuned_model", "--home", str(archive.home)]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    assert "recipe.epochs: 2 → 3" in said.output
    assert "Where they first differ" in said.output
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert found["a"]["record"] == a.digest
    assert found["b"]["record"] == b.digest
    assert {one["output"] for one in found["first_differences"]} == {
        "waveform_store@north",
        "hcm/cnn/finetuned_model@1",
    }
    pseudonyms = {"a", "b", "c", "y"}
    assert not pseudonyms & set(json.dumps(found["patients"]).replace('"', " ").split())
