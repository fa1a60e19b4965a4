"""A check that fails publishes nothing: not in Dagster, not in the archive, and nobody downstream hears of it."""

import dagster as dg
import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.orchestration.assets import training
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.plan import is_stale
from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

pytestmark = pytest.mark.acceptance

KEY = dg.AssetKey(["low_lvef", "resnet", "finetuned_model"])
CHECK = dg.AssetCheckKey(KEY, "training_never_saw_it")
LEAKING, HONEST = "0.5", "1"


@pytest.fixture
def again(runner, small_study, tmp_path, monkeypatch):
    """The small study in a home of its own, with all of its models to be fine-tuned anew."""
    changed = with_changes(small_study, tmp_path, finetuning="{epochs: 2}")
    return copied_runner(runner, changed, tmp_path / "home", monkeypatch)


@pytest.fixture
def instance(again):
    """The Dagster instance of that home, which knows all that was made before."""
    with open_instance(again.workspace.home) as opened:
        yield opened


def leaking(cohort):
    """What picks the examples of the smaller fraction's training takes a test patient's ECG in, too."""
    honest, tested = training._examples, cohort.filter(pl.col("split") == "test").sort("ecg_id").head(1)

    def examples(cohort, study, tuning, fraction):
        train, selection = honest(cohort, study, tuning, fraction)
        return (pl.concat([train, tested]), selection) if fraction == float(LEAKING) else (train, selection)

    return examples


def check_states(instance):
    """How the check last ended, by partition."""
    found = instance.event_log_storage.get_asset_check_partition_info([CHECK])
    return {state.partition_key: state.latest_execution_status.value for state in found}


def published(instance, partition):
    """All that Dagster knows to have been published of a partition: the id and data version of each materialisation."""
    events = instance.fetch_materializations(dg.AssetRecordsFilter(KEY, asset_partitions=[partition]), limit=100)
    return [(event.run_id, event.asset_materialization.tags["dagster/data_version"]) for event in events.records]


def stale_evaluations(runner):
    graph, key = runner.definitions.resolve_asset_graph(), dg.AssetKey(["low_lvef", "resnet", "evaluation"])
    keys = graph.get(key).partitions_def.get_partition_keys()
    return {partition.split("|")[0] for partition in keys if is_stale(runner.workspace, graph, (key, partition))}


def test_a_failed_check_publishes_nothing_and_stays_failed_when_its_neighbour_passes(again, instance, monkeypatch):
    archive, asset = again.workspace.archive, KEY.to_user_string()
    record, events = archive.require(asset, LEAKING), published(instance, LEAKING)
    assert check_states(instance) == {LEAKING: "SUCCEEDED", HONEST: "SUCCEEDED"}
    assert stale_evaluations(again) == set()
    cohort = Cohort(archive.folder(archive.require("low_lvef/cohort", None))).table()
    monkeypatch.setattr(training, "_examples", leaking(cohort))
    with pytest.raises(RunsFailed, match="1 ECGs of the test split were seen by the fine-tuning"):
        again.run_stale([asset], [LEAKING], instance=instance)
    assert check_states(instance) == {LEAKING: "FAILED", HONEST: "SUCCEEDED"}
    assert stale_evaluations(again) == set()
    assert again.run_stale([asset], [HONEST], instance=instance)
    assert check_states(instance) == {LEAKING: "FAILED", HONEST: "SUCCEEDED"}
    assert published(instance, LEAKING) == events
    assert archive.require(asset, LEAKING) == record
    assert len(published(instance, HONEST)) == 2
    assert stale_evaluations(again) == {HONEST}


def test_what_was_held_back_is_made_when_the_fault_is_mended(again, instance, monkeypatch):
    archive, asset = again.workspace.archive, KEY.to_user_string()
    cohort = Cohort(archive.folder(archive.require("low_lvef/cohort", None))).table()
    before = published(instance, LEAKING)
    with monkeypatch.context() as patch:
        patch.setattr(training, "_examples", leaking(cohort))
        with pytest.raises(RunsFailed):
            again.run_stale([asset], [LEAKING], instance=instance)
    assert again.run_stale([asset], [LEAKING], instance=instance)
    assert check_states(instance)[LEAKING] == "SUCCEEDED"
    assert len(published(instance, LEAKING)) == len(before) + 1
    assert (
        pl.read_parquet(archive.folder(archive.require(asset, LEAKING)) / training.TRAINED_ON)
        .join(cohort.filter(pl.col("split") == "test"), on="ecg_id")
        .is_empty()
    )
