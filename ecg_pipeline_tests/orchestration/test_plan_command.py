"""What a change would run is said before it is run, and running then makes just that."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.orchestration.impact import Cause, Reason, impact
from ecg_pipeline_tests.orchestration.conftest import open_runner
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

pytestmark = pytest.mark.acceptance  # each makes and remakes outputs of a copied home: minutes


def impact_of(runner):
    return impact(runner.workspace, runner.definitions.resolve_asset_graph())


def places(found):
    return {(one.asset, one.partition) for one in found}


def newest(runner):
    return {(record.asset, record.partition): record.digest for record in runner.workspace.archive.newest_records()}


def assert_as_predicted(runner):
    """Run what is stale; return what was predicted, and the outputs that were made."""
    found, before = impact_of(runner), newest(runner)
    assert newest(runner) == before
    runner.run_stale()
    made = {place for place, digest in newest(runner).items() if before.get(place) != digest}
    certain = places(one for one in found if one.is_certain)
    assert certain <= made
    assert made <= places(found)
    assert impact_of(runner) == []
    return {(one.asset, one.partition): one for one in found}, made


def test_nothing_runs_of_what_is_up_to_date(runner):
    assert impact_of(runner) == []


def test_a_changed_setting_runs_its_asset_and_what_reads_it_if_that_changes(runner, small_study, tmp_path, monkeypatch):
    changed = with_changes(small_study, tmp_path, image_distance="{images: 21}")
    found, made = assert_as_predicted(copied_runner(runner, changed, tmp_path, monkeypatch))
    distance = found.pop(("image_distance", None))
    assert distance.reasons == (Reason(Cause.SETTING, "image_distance.images: 20 → 21"),)
    assert distance.is_certain
    assert distance.seconds > 0
    assert {asset for asset, _ in found} == {"benchmark_report", "hcm/report", "low_lvef/report", "stemi/report"}
    assert {one.reasons for one in found.values()} == {(Reason(Cause.MAY_CHANGE, "image_distance"),)}
    assert made == {("image_distance", None), *found}


def test_a_new_file_runs_what_reads_files_and_stops_where_content_is_equal(runner, small_study, tmp_path, monkeypatch):
    copied = copied_runner(runner, small_study, tmp_path, monkeypatch)
    folder = copied.workspace.home / "hospital_system" / "morningside"
    first = min(folder.glob("*.xml"))
    shutil.copy(first, folder / "twin.xml")
    found, made = assert_as_predicted(copied)
    reason = Reason(Cause.FILES, "raw_ecg_files@morningside")
    certain = {place for place, one in found.items() if one.is_certain}
    assert certain == {("waveform_store", "morningside"), ("clinical_labels", "morningside")}
    assert found["waveform_store", "morningside"].reasons == (reason,)
    possible = found["filtered_waveforms", "morningside"]
    assert possible.reasons == (Reason(Cause.MAY_CHANGE, "waveform_store@morningside"),)
    assert ("image_shards", "mount_sinai") not in found
    assert ("filtered_waveforms", "morningside") in made
    assert ("image_shards", "morningside") in found.keys() - made, "the twin is a reject"


@pytest.mark.parametrize(
    "sections",
    [
        {"sheet": "{stroke_px: 1.0}"},
        {"fractions": "[0.25, 1.0]"},
        {"evaluation": "{bootstrap_draws: 25}"},
        {"saliency": "{ecgs: 3}"},
        {"synthetic": "{patients: 131}"},
        {"tasks": "{hcm: {models: [small_cnn]}}"},
    ],
)
def test_any_change_runs_what_was_said(runner, small_study, tmp_path, monkeypatch, sections):
    changed = with_changes(small_study, tmp_path, **sections)
    assert_as_predicted(copied_runner(runner, changed, tmp_path, monkeypatch))


def test_new_partitions_were_never_made_and_take_as_long_as_the_others(runner, small_study, tmp_path):
    found = impact_of(open_runner(with_changes(small_study, tmp_path, fractions="[0.25, 0.5, 1.0]")))
    new = next(one for one in found if (one.asset, one.partition) == ("hcm/small_cnn/finetuned_model", "0.25"))
    assert (new.is_certain, new.reasons, new.is_estimate) == (True, (Reason(Cause.NEVER_MADE),), True)
    times = [runner.workspace.archive.require(new.asset, partition).seconds for partition in ("0.5", "1")]
    assert min(times) <= new.seconds <= max(times)
    assert not [one for one in found if one.asset == "hcm/small_cnn/finetuned_model" and one.partition != "0.25"]
    report = next(one for one in found if one.asset == "hcm/report")
    assert Reason(Cause.UPSTREAM, "hcm/small_cnn/evaluation@0.25|morningside is read now") in report.reasons


def test_an_empty_home_runs_everything(small_study, tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    runner = open_runner(small_study)
    found = impact_of(runner)
    assert all(one.is_certain and one.seconds is None for one in found)
    assert ("waveform_store", "morningside") in places(found)
    assert not list(tmp_path.iterdir()), "nothing is written"


def test_a_drop_folder_that_is_gone_is_said(runner):
    folder = runner.workspace.home / "hospital_system" / "morningside"
    aside = folder.rename(folder.with_name("aside"))
    try:
        found = {(one.asset, one.partition): one for one in impact_of(runner) if one.is_certain}
        assert set(found) == {("waveform_store", "morningside"), ("clinical_labels", "morningside")}
        assert "there is no folder" in found["waveform_store", "morningside"].reasons[0].what
    finally:
        aside.rename(folder)


def test_the_command_prints_text_and_json(runner, small_study, tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_STUDY", str(small_study))
    changed = str(with_changes(small_study, tmp_path, saliency="{ecgs: 3}"))
    said = CliRunner().invoke(app, ["plan", changed])
    assert said.exit_code == 0, said.output
    assert "Will run: 3 outputs" in said.output
    assert "setting changed: saliency.ecgs: 2 → 3" in said.output
    assert "upstream may change: hcm/saliency" in said.output
    found = json.loads(CliRunner().invoke(app, ["plan", changed, "--json"]).stdout)
    assert {one["asset"] for one in found["runs"]} == {"hcm/saliency", "low_lvef/saliency", "stemi/saliency"}
    assert found["seconds_at_most"] >= found["seconds"] > 0
    monkeypatch.setenv("ECG_STUDY", str(small_study))
    assert "Everything is up to date" in CliRunner().invoke(app, ["plan", str(small_study)]).output
