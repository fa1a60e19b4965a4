"""Everything pressed at once in an empty home, through the real webserver and daemon, is what the command line makes."""

import json
import signal

import pytest

from ecg_pipeline.evaluation.report import Report
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import read_record
from ecg_pipeline_tests.test_ui import assert_gone, start

BACKFILL = """
mutation ($assets: [AssetKeyInput!]!) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, allPartitions: true}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""
BACKFILL_STATUS = """
query ($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }
"""
ASSETS = "{ assetNodes { assetKey { path } isMaterializable } }"
OVER = {"COMPLETED_SUCCESS", "COMPLETED_FAILED", "COMPLETED", "FAILED", "CANCELED"}


@pytest.fixture(scope="module")
def pressed(line, small_study, tmp_path_factory):
    """A home in which every partition of every asset was asked for at once, with its servers still running."""
    ui = start(tmp_path_factory.mktemp("pressed"), str(small_study))
    nodes = ui.graphql(ASSETS)["assetNodes"]
    wanted = [{"path": node["assetKey"]["path"]} for node in nodes if node["isMaterializable"]]
    launched = ui.graphql(BACKFILL, assets=wanted)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    backfill = launched["backfillId"]

    def status():
        return ui.graphql(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"]

    ui.until(lambda: status() in OVER, "the end of the backfill", patience_s=3000)
    yield ui, status()
    family = ui.family()
    ui.process.send_signal(signal.SIGTERM)
    assert ui.process.wait() == 0, ui.log
    assert_gone(family, ui)


def records(archive):
    """The newest record of everything that was made, by asset and partition."""
    found = [read_record(path) for path in archive.root.rglob("record.json")]
    return {(record.asset, record.partition): record for record in found}


def test_the_backfill_succeeds_without_a_failed_run(pressed, line):
    ui, status = pressed
    with open_instance(ui.folder / "small") as instance:
        runs = {run.run_id: run for run in instance.get_runs()}
        failed = {
            run_id: [entry.user_message for entry in instance.all_logs(run_id) if entry.level >= 40]
            for run_id, run in runs.items()
            if not run.is_success
        }
    assert not failed, json.dumps(failed, indent=2)
    assert status == "COMPLETED_SUCCESS"
    assert len(runs) > 10


def test_no_site_is_read_before_its_hospital_is_there(pressed):
    made = records(Archive(pressed[0].folder / "small" / "assets"))
    written = made["hospital_system", None].ended_at
    assert all(record.started_at > written for (asset, _), record in made.items() if asset != "hospital_system")


def test_what_was_pressed_equals_what_the_command_line_makes(pressed, line):
    archive = Archive(pressed[0].folder / "small" / "assets")
    pressed_made, made = records(archive), records(line.house.archive)
    assert set(pressed_made) == set(made)
    different = {
        place
        for place, record in made.items()
        if record.files != pressed_made[place].files and place[0][-6:] != "report"
    }
    assert not different
    for asset in ("benchmark_report", "hcm/report"):
        one, other = (Report(folder.folder(folder.require(asset, None))) for folder in (archive, line.house.archive))
        assert one.results().equals(other.results())
        assert one.differences().equals(other.differences())
