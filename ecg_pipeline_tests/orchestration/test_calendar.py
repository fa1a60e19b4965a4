"""What happens by itself, and when: the hourly look at the drop folders, and the monthly retraining.

Days pass in `evaluation_time`; looks, data chains and retrainings are Dagster runs that are really made.
"""

import shutil
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.assets.ingest import RAW, STORE, WHOLE, raw_version
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.sensors import study_sensors
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.orchestration.conftest import open_runner

WINDOWS = {f"waveform_windows/{name}" for name in ("ten_seconds", "segments", "filtered_window", "millivolts")}
CHAIN = {"waveform_store", "clinical_labels", "clinical_texts", "filtered_waveforms", "image_shards", *WINDOWS}
HOSPITALS = """\
extends: demo
name: hospitals
synthetic: {patients: 40, ecgs: 48, seed: 5}
"""
SIXTH = """\
sites:
  sixth:
    title: One more hospital
    format: muse_xml
    path: ${ECG_HOME}/sixth
    label_tables: [echo_reports.csv, diagnoses.csv]
    patients: public
"""
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
JANUARY = datetime(2026, 1, 1, 0, 30, tzinfo=UTC)
LOOKED = {RAW.to_user_string()}


class Calendar:
    """The sensor `new_ecgs` switched on over a study, and a clock that stands still until it is told."""

    def __init__(self, runner):
        self.runner = runner
        self.instance = dg.DagsterInstance.ephemeral()
        self.cursor = None
        self.now = JANUARY

    def tick(self, **later):
        """What the sensor requests now: partitions by asset. Then the clock moves on."""
        (sensor,) = [sensor for sensor in study_sensors() if sensor.name == "new_ecgs"]
        evaluated = dg.evaluate_automation_conditions(
            defs=self.runner.definitions,
            instance=self.instance,
            asset_selection=sensor.asset_selection,
            cursor=self.cursor,
            evaluation_time=self.now,
        )
        self.cursor = evaluated.cursor
        self.now += timedelta(**later)
        return {
            result.key.to_user_string(): set(result.true_subset.expensively_compute_partition_keys())
            for result in evaluated.results
            if not result.true_subset.is_empty
        }

    def make(self, assets, partition=None):
        """One Dagster run."""
        return self.runner.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.instance,
            asset_selection=[dg.AssetKey.from_user_string(asset) for asset in assets],
            partition_key=partition,
            run_config=QUIET,
            raise_on_error=False,
        )

    def carry_out(self, requested):
        """Make what was requested as the daemon does, one run a partition."""
        by_partition = defaultdict(list)
        for asset, partitions in requested.items():
            for partition in sorted(partitions):
                by_partition[partition].append(asset)
        for partition, assets in by_partition.items():
            assert self.make(assets, partition).success

    def hour(self):
        """What an hour brings: a look, then what it leads to, then nothing more."""
        look = self.tick(minutes=1)
        assert set(look) <= LOOKED
        self.carry_out(look)
        led_to = self.tick(minutes=1)
        self.carry_out(led_to)
        assert self.tick(minutes=58) == {}
        return led_to

    def of(self, *sites):
        """The request of these sites' data chain."""
        return {asset: set(sites) for asset in CHAIN}

    def warning(self, site):
        """What stands at a site's check of its folder: whether it passed, its severity, and what it found."""
        history = self.instance.event_log_storage.get_asset_check_execution_history(dg.AssetCheckKey(STORE, WHOLE), 100)
        said = (record.event.dagster_event.asset_check_evaluation_data for record in history)
        last = next(evaluation for evaluation in said if evaluation.partition == site)
        return last.passed, last.severity, str(last.metadata["found"].value)


@pytest.fixture
def calendar(tmp_path, monkeypatch):
    """The calendar of a study of four small hospitals, whose files are there and nothing else."""
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    monkeypatch.setenv("ECG_WORKERS", "1")
    study = tmp_path / "hospitals.yaml"
    study.write_text(HOSPITALS)
    return Calendar(open_runner(study))


@pytest.fixture
def hospitals(calendar):
    """The same, after the files were written and everything that is made of them."""
    assert calendar.make(["hospital_system"]).success
    assert calendar.tick(hours=1) == {}
    assert calendar.hour() == calendar.of(*calendar.runner.workspace.study.sites)
    return calendar


def folder(calendar, site):
    return calendar.runner.workspace.home / "hospital_system" / site


def one_more_file(calendar, site, name="zz-new.xml"):
    """An export that a hospital sends: the ECG of another system's patient."""
    elsewhere = calendar.runner.workspace.home.parent / "elsewhere"
    write_hospital_system(HospitalSystem(40, 48, seed=6), elsewhere)
    sent = sorted((elsewhere / site).glob("*.xml"))[0]
    shutil.copyfile(sent, folder(calendar, site) / name)


def ecgs(calendar, site):
    """Files that stand in a site's waveform store."""
    archive = calendar.runner.workspace.archive
    store = WaveformStore(archive.folder(archive.require("waveform_store", site)))
    return store.ecgs()["source"].to_list()


def test_a_fresh_home_is_read_when_its_files_are_there(calendar):
    assert calendar.tick(hours=1) == {}
    assert calendar.hour() == {}
    assert all(not calendar.warning(site)[0] for site in calendar.runner.workspace.study.sites), (
        "there are no folders yet"
    )
    assert calendar.make(["hospital_system"]).success
    assert calendar.hour() == calendar.of(*calendar.runner.workspace.study.sites)
    assert all(calendar.warning(site)[0] for site in calendar.runner.workspace.study.sites)
    assert calendar.hour() == {}


@pytest.mark.slow
@pytest.mark.acceptance
def test_ninety_days(hospitals):
    """One file on the 16th of the second month; the other months are quiet."""
    first, arrives, led_to = hospitals.now, datetime(2026, 2, 16, tzinfo=UTC), {}
    versions = raw_version(hospitals.runner.workspace.study)
    while hospitals.now < first + timedelta(days=90):
        if arrives and hospitals.now >= arrives:
            one_more_file(hospitals, "beth_israel")
            arrives = None
        look = hospitals.tick(minutes=30)
        assert look == {RAW.to_user_string(): set(hospitals.runner.workspace.study.sites)}
        for site in sorted(look[RAW.to_user_string()]):
            seen = {"dagster/data_version": versions(site)}
            hospitals.instance.report_runless_asset_event(dg.AssetObservation(RAW, partition=site, tags=seen))
        if requested := hospitals.tick(hours=11, minutes=30):
            led_to[hospitals.now.date()] = requested
            hospitals.carry_out(requested)
    assert led_to == {datetime(2026, 2, 16, tzinfo=UTC).date(): hospitals.of("beth_israel")}
    assert ecgs(hospitals, "beth_israel").count("zz-new.xml") == 1


def test_a_look_between_a_request_and_the_next_evaluation_is_not_forgotten(hospitals):
    one_more_file(hospitals, "beth_israel")
    hospitals.carry_out(hospitals.tick(minutes=1))
    requested = hospitals.tick(minutes=1)
    assert requested == hospitals.of("beth_israel")
    hospitals.carry_out(requested)
    one_more_file(hospitals, "beth_israel", name="zz-newer.xml")
    assert hospitals.make([RAW.to_user_string()], "beth_israel").success
    assert hospitals.tick(minutes=1) == hospitals.of("beth_israel")


@pytest.mark.parametrize("left", ["nothing", "no folder", "fewer than half"])
def test_a_folder_that_lost_its_files_stops_its_own_site(hospitals, left):
    lost, away = folder(hospitals, "beth_israel"), hospitals.runner.workspace.home / "away"
    before = ecgs(hospitals, "beth_israel")
    lost.rename(away)
    if left != "no folder":
        lost.mkdir()
    if left == "fewer than half":
        for path in sorted(away.glob("*.xml"))[:2]:
            shutil.copy2(path, lost)
    one_more_file(hospitals, "mount_sinai")
    assert hospitals.hour() == hospitals.of("mount_sinai")
    assert hospitals.hour() == {}, "a second look finds the same"
    passed, severity, found = hospitals.warning("beth_israel")
    assert (passed, severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "Is its disk mounted" in found
    assert hospitals.warning("mount_sinai")[0]
    shutil.rmtree(lost, ignore_errors=True)
    away.rename(lost)
    assert hospitals.hour() == {}, "it is as it was"
    assert hospitals.warning("beth_israel")[0], "the warning ends with what it warned of"
    assert ecgs(hospitals, "beth_israel") == before


@pytest.mark.acceptance
def test_a_sixth_hospital_is_read_and_no_other(hospitals, monkeypatch):
    monkeypatch.setattr("ecg_pipeline.orchestration.assets.ingest.SETTLE_S", 0.0)
    elsewhere = hospitals.runner.workspace.home.parent / "elsewhere"
    write_hospital_system(HospitalSystem(40, 48, seed=6), elsewhere)
    study = hospitals.runner.workspace.home.parent / "sixth.yaml"
    study.write_text(HOSPITALS + SIXTH)
    shutil.copytree(elsewhere / "morningside", hospitals.runner.workspace.home / "sixth")
    hospitals.runner = open_runner(study)
    assert set(hospitals.tick(minutes=1)) <= LOOKED
    led_to = [hospitals.hour() for _ in range(3)]
    assert [request for request in led_to if request] == [hospitals.of("sixth")]


@pytest.mark.acceptance
def test_the_schedule_fires_on_the_first_night_of_a_month(calendar):
    (schedule,) = calendar.runner.definitions.schedules
    assert schedule.job_name == "retrain"
    first = datetime(2026, 1, 1)
    nights = dg.TimeWindowPartitionsDefinition(
        start=first,
        fmt="%Y-%m-%d %H:%M",
        cron_schedule=schedule.cron_schedule,
        timezone=schedule.execution_timezone or "UTC",
    ).get_partition_keys(current_time=first + timedelta(days=150))
    ticks = [night for night in nights if datetime.fromisoformat(night) < first + timedelta(days=90)]
    assert ticks == ["2026-01-01 02:00", "2026-02-01 02:00", "2026-03-01 02:00"]
    for tick in ticks:
        at = datetime.fromisoformat(tick).replace(tzinfo=UTC)
        data = schedule.evaluate_tick(dg.build_schedule_context(scheduled_execution_time=at))
        assert len(data.run_requests) == 1


def retrain(runner):
    """What a run of the schedule's job says of itself, and the partitions that it had made, by asset."""
    graph = runner.definitions.resolve_asset_graph()
    with open_instance(runner.workspace.home) as instance:
        before = {run.run_id for run in instance.get_runs()}
        result = runner.definitions.resolve_job_def("retrain").execute_in_process(instance=instance, run_config=QUIET)
        (output,) = [event.step_output_data for event in result.all_events if event.is_successful_output]
        made = defaultdict(list)
        for run in instance.get_runs():
            if run.run_id not in before and run.job_name != "retrain":
                for key in (run.asset_selection or set()) & graph.materializable_asset_keys:
                    made[key.to_user_string()].append(run.tags.get("dagster/partition"))
        return {name: value.value for name, value in output.metadata.items()}, made


@pytest.mark.acceptance
def test_in_a_quiet_month_nothing_is_trained(runner):
    said, made = retrain(runner)
    assert said == {"runs": 0, **dict.fromkeys(runner.workspace.study.tasks, "up to date")}
    assert not made


@pytest.fixture
def another_home(runner, small_study, tmp_path, monkeypatch):
    """A runner of the small study in a copy of its home, which a test may change."""
    shutil.copytree(runner.workspace.home, tmp_path / "small", ignore=shutil.ignore_patterns("mlflow*"))
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_runner(small_study)


@pytest.mark.slow
@pytest.mark.acceptance
def test_in_a_month_with_new_ecgs_every_stale_task_is_trained_once(another_home, tmp_path):
    runner, study = another_home, another_home.workspace.study
    write_hospital_system(HospitalSystem(60, 80, seed=9), tmp_path / "elsewhere")
    site, sent = runner.workspace.home / "hospital_system" / "mount_sinai", tmp_path / "elsewhere" / "mount_sinai"
    for path in sent.glob("*.xml"):
        shutil.copyfile(path, site / f"zz-{path.name}")
    for path in sent.glob("*.csv"):
        pl.concat([pl.read_csv(site / path.name), pl.read_csv(path)]).write_csv(site / path.name)
    assert {key.to_user_string() for run in runner.run_stale(sorted(CHAIN)) for key in run.assets} == CHAIN
    _, made = retrain(runner)
    stale = ["low_lvef", "hcm"]
    # Its cohort keeps to the split of all pretraining patients, and its report draws on the images of all sites.
    assert {asset for asset in made if asset.startswith("stemi/")} == {"stemi/cohort", "stemi/report"}
    assert {asset.split("/")[0] for asset in made} == {*stale, "stemi", "image_distance", "benchmark_report"}
    graph = runner.definitions.resolve_asset_graph()
    for task in stale:
        for asset in [key for key in graph.materializable_asset_keys if key.path[0] == task]:
            definition = graph.get(asset).partitions_def
            every = definition.get_partition_keys() if definition else [None]
            made_of_it = made[asset.to_user_string()]
            assert len(made_of_it) == len(set(made_of_it))
            if asset.path[-1] != "test_set":
                assert sorted(made_of_it, key=str) == sorted(every, key=str)
    assert made["benchmark_report"] == [None]
    assert retrain(runner)[0] == {"runs": 0, **dict.fromkeys(study.tasks, "up to date")}
