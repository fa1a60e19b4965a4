"""The Dagster instance of a study's home: made once, limited by the machine, left alone by hand."""

import os

import dagster as dg
import psutil
import pytest
import yaml

from ecg_pipeline.orchestration.instance import DATA, TRAINING, instance_home, open_instance, run_process
from ecg_pipeline_tests.at_once import run_at_once

OPEN = """
import sys
from pathlib import Path
from ecg_pipeline.orchestration.instance import open_instance

print("ready", flush=True)
sys.stdin.read(1)
with open_instance(Path(sys.argv[1])) as instance:
    instance.get_runs_count()
"""


@pytest.fixture(autouse=True)
def _no_dagster_home(monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


def limits(home):
    with open_instance(home) as instance:
        return {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}


def test_pools_have_the_limits_of_the_machine(tmp_path):
    assert limits(tmp_path) == {TRAINING: os.cpu_count(), DATA: 1}


def test_a_limit_set_by_hand_is_left_alone(tmp_path):
    with open_instance(tmp_path) as instance:
        instance.event_log_storage.set_concurrency_slots(TRAINING, 7)
        instance.event_log_storage.set_concurrency_slots(DATA, 3)
    assert limits(tmp_path) == {TRAINING: 7, DATA: 3}


def test_a_home_has_our_settings_and_keeps_those_that_were_changed(tmp_path):
    settings = instance_home(tmp_path) / "dagster.yaml"
    shipped = yaml.safe_load(settings.read_text())
    assert shipped["telemetry"] == shipped["nux"] == {"enabled": False}
    assert shipped["concurrency"]["runs"]["max_concurrent_runs"] >= 2
    assert shipped["concurrency"]["pools"]["granularity"] == "run"
    assert shipped["run_retries"]["retry_on_asset_or_op_failure"] is False
    settings.write_text("telemetry: {enabled: false}\n")
    assert settings == instance_home(tmp_path) / "dagster.yaml"
    assert settings.read_text() == "telemetry: {enabled: false}\n"


def test_dagster_reads_every_setting(tmp_path):
    with open_instance(tmp_path) as instance:
        assert not instance.telemetry_enabled
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert not instance.get_settings("run_retries")["retry_on_asset_or_op_failure"]
        assert instance.get_settings("concurrency")["pools"] == {"granularity": "run", "default_limit": 1}


def test_dagster_home_wins_where_it_is_set(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "elsewhere"))
    assert instance_home(tmp_path / "home") == tmp_path / "elsewhere"
    assert limits(tmp_path / "home")
    assert (tmp_path / "elsewhere" / "dagster.yaml").exists()
    assert not (tmp_path / "home").exists()


def test_processes_that_open_an_empty_home_at_the_same_moment_all_succeed(tmp_path):
    run_at_once(4, OPEN, str(tmp_path))
    assert limits(tmp_path) == {TRAINING: os.cpu_count(), DATA: 1}


def test_the_process_of_a_run_is_found_while_it_lives(tmp_path):
    seen = []

    @dg.asset
    def thing(context: dg.AssetExecutionContext) -> None:
        seen.append(run_process(context.instance, context.run.run_id))

    with open_instance(tmp_path) as instance:
        assert dg.materialize([thing], instance=instance).success
        assert seen == [psutil.Process()]
        assert run_process(instance, "no such run") is None
