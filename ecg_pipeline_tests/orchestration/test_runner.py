"""The whole pipeline on a small synthetic study: everything is made, recorded, shown, and made once."""

import re
import shutil
import sqlite3

import dagster as dg
import mlflow
import numpy as np
import polars as pl
import pytest

from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.plan import Plan, is_stale, partitions_of
from ecg_pipeline.orchestration.runs import RunsFailed, select
from ecg_pipeline.provenance.record import read_record
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.synthetic.hospital import read_planted
from ecg_pipeline.tracking import tracking_uri
from ecg_pipeline_tests.orchestration.conftest import open_runner


def every_partition(runner):
    graph = runner.definitions.resolve_asset_graph()
    for key in graph.toposorted_asset_keys:
        node = graph.get(key)
        if node.is_materializable:
            for partition in node.partitions_def.get_partition_keys() if node.partitions_def else [None]:
                yield key, partition


def record_of(runner, asset, partition=None):
    return runner.workspace.archive.require(asset, partition)


def test_every_partition_that_the_study_names_is_materialised(runner):
    names = {key.to_user_string() for key, _ in every_partition(runner)}
    assert {
        "waveform_store",
        "clinical_labels",
        "filtered_waveforms",
        "image_shards",
        "waveform_windows/ten_seconds",
        "image_tokenizer",
        "patch_tokens",
        "heartbeit/pretrained_checkpoint",
        "low_lvef/cohort",
        "low_lvef/resnet/finetuned_model",
        "hcm/small_cnn/finetuned_model",
        "stemi/heartbeit/evaluation",
        "low_lvef/saliency",
        "low_lvef/report",
        "benchmark_report",
        "image_distance",
    } <= names
    assert "hcm/resnet/finetuned_model" not in names, "the task names its models"
    for key, partition in every_partition(runner):
        record_of(runner, key.to_user_string(), partition)


def test_the_same_again_is_no_work(runner):
    assert runner.run_stale() == []


def test_the_external_hospital_is_its_own_partition(runner):
    partitions = [p for key, p in every_partition(runner) if key.to_user_string() == "hcm/heartbeit/evaluation"]
    assert "1|morningside" in partitions
    record = record_of(runner, "hcm/heartbeit/evaluation", "1|morningside")
    read = {(entry.asset, entry.partition) for entry in record.upstream}
    assert read == {("hcm/heartbeit/finetuned_model", "1"), ("hcm/test_set", "morningside")}
    read = {(entry.asset, entry.partition) for entry in record_of(runner, "hcm/test_set", "morningside").upstream}
    views = {("image_shards", "morningside"), ("waveform_windows/ten_seconds", "morningside")}
    assert read == {("hcm/cohort", None), *views}


def test_records_state_the_versions_that_went_in_and_the_files_that_came_out(runner):
    sources = {key.to_user_string() for key in runner.workspace.source_versions}
    for key, partition in every_partition(runner):
        record = record_of(runner, key.to_user_string(), partition)
        assert record.files == folder_digests(runner.workspace.archive.folder(record))
        assert record.upstream or record.asset == "hospital_system"
        for entry in record.upstream:
            if entry.asset not in sources:
                assert entry.data_version == record_of(runner, entry.asset, entry.partition).data_version
        trained = key.path[-1] in ("finetuned_model", "pretrained_checkpoint", "image_tokenizer")
        assert (record.mlflow_run_id is not None) == trained
        assert record.dagster_run_id


def test_dagster_knows_what_the_command_line_made(runner):
    with open_instance(runner.workspace.home) as instance:
        sites = instance.get_materialized_partitions(dg.AssetKey("image_shards"))
        assert sites == set(runner.workspace.study.sites)
        event = instance.get_latest_materialization_event(dg.AssetKey(["low_lvef", "cohort"]))
        metadata = event.asset_materialization.metadata
        assert metadata["dagster/row_count"].value > 50
        assert {"flow", "record", "dagster/uri"} <= set(metadata)
        sheets = instance.get_latest_materialization_event(dg.AssetKey("image_shards")).asset_materialization.metadata
        assert "/previews/image_shards/" in sheets["first_sheets"].value


def test_rejects_equal_what_was_planted(runner):
    planted = read_planted(runner.workspace.home / "hospital_system")
    for site, truth in planted.sites.items():
        store = WaveformStore(runner.workspace.archive.folder(record_of(runner, "waveform_store", site)))
        assert dict(store.rejects().group_by("reason").len().iter_rows()) == truth.rejects
        assert len(store.ecgs()) == truth.usable


@pytest.mark.parametrize(
    ("model", "view", "epochs"), [("resnet", "image_shards", "1"), ("small_cnn", "waveform_windows/ten_seconds", "2")]
)
def test_mlflow_has_a_run_a_training_and_serves_what_was_evaluated(runner, model, view, epochs):
    home = runner.workspace.home
    client = mlflow.MlflowClient(tracking_uri(home))
    record = record_of(runner, f"stemi/{model}/finetuned_model", "1")
    run = client.get_run(record.mlflow_run_id)
    assert run.data.tags["asset"] == f"stemi/{model}/finetuned_model"
    assert run.data.tags["partition"] == "1"
    assert run.data.tags["dagster_run_id"] == record.dagster_run_id
    assert run.data.tags["study_fingerprint"] == runner.workspace.study.fingerprint()
    assert run.data.params["finetuning.epochs"] == epochs
    assert (run.data.tags["protocol"], run.data.tags["optimistic"]) == ("honest", "False")
    assert "seed_0/train_loss" in run.data.metrics
    mlflow.set_tracking_uri(tracking_uri(home))
    served = mlflow.pyfunc.load_model(f"models:/{run.outputs.model_outputs[0].model_id}")
    evaluation = record_of(runner, f"stemi/{model}/evaluation", "1|ptb_xl_like")
    predictions = Evaluation(runner.workspace.archive.folder(evaluation)).predictions()
    shards = ArrayShards(runner.workspace.archive.folder(record_of(runner, view, "ptb_xl_like")))
    scores = served.predict({"examples": shards.read_ecgs(predictions["ecg_id"])})
    np.testing.assert_allclose(scores, predictions["score"], atol=1e-5)


def words_in(words, content):
    """The words that some content holds, all of them bytes. Short ones occur by chance in pictures as text and in
    weights, so a word counts in text where it stands alone, and in anything else from six letters on."""
    # One pass for all words, over bytes as characters.
    found = pl.Series([content.decode("latin-1")]).str.extract_many(
        [word.decode("latin-1") for word in words], overlapping=True
    )
    held = [word.encode("latin-1") for word in found[0].unique()]
    try:
        content.decode()
    except UnicodeDecodeError:
        return [word for word in held if len(word) > 5]
    alone = rb"(?<![A-Za-z0-9+/])%s(?![A-Za-z0-9+/])"
    return [word for word in held if re.search(alone % re.escape(word), content)]


@pytest.mark.parametrize(
    ("content", "held"),
    [
        (b"of DOE, JANE and 0012345", {"DOE", "DOE, JANE", "0012345"}),
        (b"DOEM 10012345", set()),
        (b"\xff0012345DOE, JANEtte", {"0012345", "DOE, JANE"}),
        ("of MÜLLER".encode(), {"MÜLLER"}),
        (b"", set()),
    ],
)
def test_words_are_found(content, held):
    words = [name.encode() for name in ("DOE", "DOE, JANE", "0012345", "MÜLLER")]
    assert {word.decode() for word in words_in(words, content)} == held


def test_no_identity_is_in_anything_that_was_written(runner):
    home = runner.workspace.home
    words = [word.encode() for word in read_planted(home / "hospital_system").identities]
    parquet = [str(pl.read_parquet(path).rows()).encode() for path in (home / "assets").rglob("*.parquet")]
    others = [
        path.read_bytes()
        for path in home.rglob("*")
        if path.is_file() and "hospital_system" not in path.parts and path.suffix != ".parquet"
    ]
    dumps = [
        "\n".join(sqlite3.connect(path).iterdump()).encode() for path in home.rglob("*.db") if "dagster" in path.parts
    ]
    assert len(words) > 100
    assert len(parquet) > 30
    for content in (*parquet, *others, *dumps):
        assert not words_in(words, content)


def test_reports_stand_alone(runner):
    for asset in ("benchmark_report", "hcm/report"):
        made = Report(runner.workspace.archive.folder(record_of(runner, asset)))
        page = made.page.read_text()
        assert "Synthetic ECGs." in page
        assert 'src="http' not in page
        assert 'href="http' not in page.replace('href="http://www.w3.org', "")
        assert "morningside" in page
        assert len(made.results()) > 0
        assert ("data:image/png" in page) == (asset == "hcm/report"), "pictures of maps are on the page of a task"


def test_what_goes_in_was_made_before(runner):
    sources = {key.to_user_string() for key in runner.workspace.source_versions}
    for key, partition in every_partition(runner):
        record = record_of(runner, key.to_user_string(), partition)
        for entry in record.upstream:
            if entry.asset not in sources:
                kept = runner.workspace.archive.place(entry.asset, entry.partition) / "records"
                made = [old for old in map(read_record, kept.glob("*.json")) if old.data_version == entry.data_version]
                assert min(old.ended_at for old in made) <= record.started_at


def test_a_changed_constant_makes_stale_what_depends_on_it(runner, small_study, tmp_path):
    changed = tmp_path / "changed.yaml"
    changed.write_text(small_study.read_text() + "sheet: {stroke_px: 1.0}\n")
    other = open_runner(changed)
    graph = other.definitions.resolve_asset_graph()
    stale = {key.to_user_string() for key, p in every_partition(other) if is_stale(other.workspace, graph, (key, p))}
    assert "image_shards" in stale
    assert not stale & {"waveform_store", "clinical_labels", "filtered_waveforms", "low_lvef/cohort"}


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("low_lvef/report", {"low_lvef/report"}),
        ("+filtered_waveforms", {"hospital_system", "waveform_store", "filtered_waveforms"}),
        ("hcm/heartbeit/evaluation+", {"hcm/heartbeit/evaluation", "hcm/saliency", "hcm/report", "benchmark_report"}),
    ],
)
def test_assets_are_asked_for_by_name(runner, asked, found):
    graph = runner.definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in select(graph, asked)} == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["1|morningside"], {"1|morningside"}),
        (["morningside"], {"0.5|morningside", "1|morningside"}),
        (["morningside", "1"], {"1|morningside"}),
    ],
)
def test_partitions_are_asked_for_by_key_or_by_dimension(runner, asked, found):
    graph, key = runner.definitions.resolve_asset_graph(), dg.AssetKey(["hcm", "heartbeit", "evaluation"])
    assert {partition for _, partition in partitions_of(graph, frozenset({key}), asked)} == found


@pytest.mark.parametrize(("asked", "answer"), [("low_lvf/report", "no asset"), ("a b(", "selection")])
def test_what_no_asset_answers_to_is_said(runner, asked, answer):
    with pytest.raises(RunsFailed, match=answer):
        runner.run_stale([asked])


def test_a_new_file_makes_its_own_site_stale(runner):
    folder = runner.workspace.home / "hospital_system" / "beth_israel"
    note = folder / "ecg-new.xml"
    shutil.copy(folder / "ecg-0001.xml", note)
    try:
        graph = runner.definitions.resolve_asset_graph()
        selected = frozenset(map(dg.AssetKey, ("waveform_store", "filtered_waveforms", "image_shards")))
        plan = Plan(runner.workspace, graph, selected)
        assert plan.next_run().nodes == [(key, "beth_israel") for key in graph.toposorted_asset_keys if key in selected]
        assert plan.next_run() is None
        assert len(runner.run_stale(["waveform_store"])) == 1
        store = record_of(runner, "waveform_store", "beth_israel")
        rejects = WaveformStore(runner.workspace.archive.folder(store)).rejects()
        assert rejects.filter(pl.col("source") == "ecg-new.xml")["reason"].to_list() == ["duplicate_waveform"]
    finally:
        note.unlink()
        assert runner.run_stale()


def test_a_tokenizer_that_collapsed_is_held_back(runner, small_study, tmp_path):
    before = record_of(runner, "image_tokenizer")
    path = tmp_path / "untrained.yaml"
    path.write_text(small_study.read_text().replace("steps: 40", "steps: 1"))
    with pytest.raises(RunsFailed, match=r"codebook_in_use found .*perplexity"):
        open_runner(path).run_stale(["image_tokenizer"])
    assert record_of(runner, "image_tokenizer") == before
