"""Everything pressed at once in an empty home, through webserver and daemon, is what the command line makes."""

import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import read_record
from ecg_pipeline.reporting.results import Report
from ecg_pipeline_tests.orchestration.conftest import check_all_succeeded, open_runner

pytestmark = pytest.mark.acceptance


def records(archive):
    """The newest record of everything that was made, by asset and partition."""
    found = [read_record(path) for path in archive.root.rglob("record.json")]
    return {(record.asset, record.partition): record for record in found}


def test_the_backfill_succeeds_without_a_failed_run(pressed):
    check_all_succeeded(pressed, "small")


def test_no_site_is_read_before_its_hospital_is_there(pressed):
    made = records(Archive(pressed[0].folder / "small"))
    written = made["hospital_system", None].ended_at
    assert all(record.started_at > written for (asset, _), record in made.items() if asset != "hospital_system")


def test_what_was_pressed_equals_what_the_command_line_makes(pressed, pressed_study, tmp_path, monkeypatch):
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runner = open_runner(pressed_study)
    runner.run_stale()
    archive = Archive(pressed[0].folder / "small")
    pressed_made, made = records(archive), records(runner.workspace.archive)
    assert set(pressed_made) == set(made)
    different = {
        place
        for place, record in made.items()
        if record.files != pressed_made[place].files and place[0][-6:] != "report"
    }
    assert not different
    for asset in ("benchmark_report", "hcm/report"):
        one, other = (
            Report(folder.folder(folder.require(asset, None))) for folder in (archive, runner.workspace.archive)
        )
        assert one.results().equals(other.results())
        assert one.differences().equals(other.differences())
