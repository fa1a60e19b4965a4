"""An output is made again from its record in a scratch home, and has the same digests; what differs is said first."""

import json
import os
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.orchestration.reproduce import CannotReproduce, Reproduction
from ecg_pipeline.provenance.diff import first_differences
from ecg_pipeline.provenance.lineage import find_output
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

pytestmark = pytest.mark.acceptance  # each makes and remakes outputs of a copied home: minutes

TOKENIZER = "image_tokenizer"
DIRTY = "uncommitted changes"
"""A mismatch of a checkout in which somebody is working."""


def reproduction(runner, name, folder, **more):
    archive = runner.workspace.archive
    return Reproduction(archive, find_output(archive, name), folder / "scratch", **more)


def told(found):
    return {one.what: (one.recorded, one.here) for one in found if one.what != DIRTY}


def assert_reproduced(runner, name, folder):
    again = reproduction(runner, name, folder)
    before = folder_digests(runner.workspace.archive.folder(again.record))
    assert told(again.mismatches()) == {}
    (made,) = again.run()
    assert made.is_equal
    assert made.equal == tuple(made.recorded.files)
    assert made.made.build == again.record.build, "it was made of the recorded versions"
    assert made.made.dagster_run_id != again.record.dagster_run_id
    assert again.target.home == folder / "scratch" / "small"
    assert folder_digests(runner.workspace.archive.folder(again.record)) == before


def test_a_tokenizer_has_the_same_digests_when_it_is_made_again(runner, tmp_path):
    environment = dict(os.environ)
    assert_reproduced(runner, TOKENIZER, tmp_path)
    assert dict(os.environ) == environment


def test_a_fine_tuned_model_has_the_same_digests_when_it_is_made_again(runner, tmp_path):
    assert_reproduced(runner, "stemi/small_cnn/finetuned_model@1", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "heartbeit/pretrained_checkpoint",
        "hcm/heartbeit/finetuned_model@0.5",
        "low_lvef/resnet/finetuned_model@1",
        "waveform_store@mount_sinai",
        "clinical_labels@beth_israel",
        "hospital_system",
        "patch_tokens@mount_sinai",
        "low_lvef/cohort",
        "low_lvef/resnet/evaluation@1|morningside",
    ],
)
def test_other_outputs_have_the_same_digests(runner, tmp_path, name):
    assert_reproduced(runner, name, tmp_path)


def test_everything_upstream_is_made_again_from_the_drop_folders(runner, tmp_path):
    again = reproduction(runner, "hcm/small_cnn/finetuned_model@0.5", tmp_path, is_whole=True)
    assert told(again.mismatches()) == {}
    made = again.run()
    assert made[-1].recorded == again.record
    assert made[0].recorded.asset == "hospital_system"
    assert len(made) == len(again.upstream.records) > 8
    assert all(one.is_equal for one in made)


def test_recorded_versions_are_taken_though_newer_ones_were_made(runner, small_study, tmp_path, monkeypatch):
    changed = with_changes(small_study, tmp_path, sheet="{stroke_px: 1.0}")
    later = copied_runner(runner, changed, tmp_path, monkeypatch)
    record = later.workspace.archive.require(TOKENIZER, None)
    later.run_stale(["image_shards"])
    assert later.workspace.archive.require("image_shards", "mount_sinai").data_version not in {
        entry.data_version for entry in record.upstream
    }
    again = reproduction(later, TOKENIZER, tmp_path)
    assert told(again.mismatches()) == {}
    (made,) = again.run()
    assert made.is_equal
    assert {(one.asset, one.partition, one.record) for one in made.made.upstream} == {
        (one.asset, one.partition, one.record) for one in record.upstream
    }


@pytest.mark.parametrize(
    ("planted", "what"),
    [
        ({"packages": {"torch": "1.0.0"}}, "package torch"),
        ({"hardware": {"threads": 7}}, "threads"),
        ({"hardware": {"device": "cuda", "gpu": "H100"}}, "gpu"),
        ({"git_commit": "0" * 40}, "commit"),
        ({"environment": None}, "installed packages"),
        ({"study": "0" * 64}, "fingerprint of the study"),
        ({"identity": {"revision": 99}}, "image_tokenizer: revision"),
    ],
)
def test_what_differs_is_said(runner, tmp_path, planted, what):
    again = reproduction(runner, TOKENIZER, tmp_path)
    record = again.record
    fields = {
        name: {**getattr(record, name), **value} if isinstance(value, dict) else value
        for name, value in planted.items()
    }
    other = replace(again, record=replace(record, **fields))
    assert what in told(other.mismatches())


def test_changed_files_matter_only_to_what_reads_files(runner, tmp_path):
    drop = runner.workspace.home / "hospital_system" / "mount_sinai"
    added = drop / "added.xml"
    added.write_text("<x/>")
    try:
        store = reproduction(runner, "waveform_store@mount_sinai", tmp_path)
        assert set(told(store.mismatches())) == {"files of raw_ecg_files@mount_sinai"}
        assert told(reproduction(runner, TOKENIZER, tmp_path).mismatches()) == {}
    finally:
        added.unlink()


def test_inputs_that_are_altered_or_gone_are_said(runner, small_study, tmp_path, monkeypatch):
    copied = copied_runner(runner, small_study, tmp_path, monkeypatch)
    archive = copied.workspace.archive
    folder = archive.folder(archive.require("patch_tokens", "mount_sinai"))
    index = folder / "index.parquet"
    index.unlink()
    index.write_bytes(b"other")
    again = reproduction(copied, "heartbeit/pretrained_checkpoint", tmp_path)
    assert told(again.mismatches())["files of patch_tokens@mount_sinai"][1] == "altered: index.parquet"
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(CannotReproduce, match=r"patch_tokens@mount_sinai.* no longer on disk.*--all"):
        again.mismatches()
    with pytest.raises(CannotReproduce, match="the study that it was made from is not recorded"):
        replace(again, record=replace(again.record, study_text=None)).mismatches()


def test_the_command_says_what_differs_and_refuses_unless_told_to_go_on(runner, small_study, tmp_path, monkeypatch):
    copied = copied_runner(runner, small_study, tmp_path, monkeypatch)
    archive, home = copied.workspace.archive, copied.workspace.home
    record = archive.require("stemi/cohort", None)
    planted = archive.save(replace(record, hardware={**record.hardware, "threads": 7}))
    arguments = ["reproduce", planted.digest[:16], "--home", str(home)]
    left_by_a_killed_command = home / ".reproduce-killed"
    left_by_a_killed_command.mkdir()
    os.utime(left_by_a_killed_command, (0, 0))
    refused = CliRunner().invoke(app, arguments)
    assert refused.exit_code == 2
    assert "threads: recorded 7, here 1" in refused.output
    assert "--anyway" in refused.output
    assert not list(home.glob(".reproduce*"))
    kept = tmp_path / "kept"
    done = CliRunner().invoke(app, [*arguments, "--anyway", "--json", "--into", str(kept)])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert "threads" in {one["what"] for one in found["differences"]}
    assert found["is_equal"]
    assert found["outputs"][0]["made"] == record.files
    assert (kept / "small" / "provenance" / "ledger.jsonl").is_file()
    assert "must be empty" in CliRunner().invoke(app, [*arguments, "--into", str(kept)]).output
    assert not list(home.glob(".reproduce*"))
    assert first_differences(archive, record, planted) == ()
