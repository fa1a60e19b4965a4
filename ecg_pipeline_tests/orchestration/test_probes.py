"""Frozen arms from features to evaluation: what they depend on, what they are fitted to, and what is said of them."""

import re

import dagster as dg
import numpy as np
import polars as pl
import pytest
import torch

from ecg_pipeline.cohorts.pretraining_set import SETS
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.models.load import build_classifier, load_classifier, recipe_from
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training import probe
from ecg_pipeline.training.checkpoints import FinetunedModel, PretrainedModel
from ecg_pipeline.training.features import Features
from ecg_pipeline.training.recipes import ProbeRecipe
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes
from ecg_pipeline_tests.orchestration.test_leaks import found_by_checks
from ecg_pipeline_tests.orchestration.test_reproduce import assert_reproduced

SITE, EVALUATED = "ptb_xl_like", "1|ptb_xl_like"
CHANGES = {
    "models": "{probe: {like: heartbeit, frozen: true}, guess: {like: heartbeit, frozen: true, pretrained: false}}",
    "tasks": "{low_lvef: {models: [heartbeit], prompts: null}, stemi: {models: [heartbeit, probe, guess]}}",
    "fractions": "[1.0]",
    "finetuning": "{seeds: [0, 1]}",
}


@pytest.fixture(scope="module")
def again(runner, small_study, tmp_path_factory):
    """The small study in a home of its own, with two frozen arms of one task."""
    folder = tmp_path_factory.mktemp("probes")
    with pytest.MonkeyPatch.context() as patch:
        opened = copied_runner(runner, with_changes(small_study, folder, **CHANGES), folder / "home", patch)
        arms = [f"stemi/{arm}/{asset}" for arm in ("probe", "guess") for asset in ("finetuned_model", "evaluation")]
        assert opened.run_stale(["heartbeit/features", *arms], [SITE, "1", EVALUATED])
        yield opened


def folder_of(runner, asset, partition):
    return runner.workspace.archive.folder(runner.workspace.archive.require(asset, partition))


def finetuned(runner, arm):
    return FinetunedModel(folder_of(runner, f"stemi/{arm}/finetuned_model", "1"))


def start(runner, arm):
    return PretrainedModel(folder_of(runner, "heartbeit/pretrained_checkpoint", None)) if arm == "probe" else None


def test_features_are_made_once_where_an_arm_is_fitted(again):
    graph = again.definitions.resolve_asset_graph()
    features = graph.get(dg.AssetKey(["heartbeit", "features"]))
    assert features.partitions_def.get_partition_keys() == [SITE]
    assert features.parent_keys == {dg.AssetKey("image_shards"), dg.AssetKey(["heartbeit", "pretrained_checkpoint"])}
    made = Features(folder_of(again, "heartbeit/features", SITE))
    assert made.encoders() == ["pretrained/seed_0", "random/seed_0", "random/seed_1"]
    view = ArrayShards(folder_of(again, "image_shards", SITE))
    for encoder in made.encoders():
        assert made.of(encoder).index().equals(view.index().select("ecg_id", "shard", "row"))
    with open_instance(again.workspace.home) as instance:
        shown = instance.get_latest_materialization_event(features.key).asset_materialization.metadata
    assert (shown["dagster/row_count"].value, shown["features"].value) == (len(view), 32)


@pytest.mark.parametrize("arm", ["probe", "guess"])
def test_a_frozen_arm_reads_features_and_keeps_its_encoder(again, arm):
    read = {entry.asset for entry in again.workspace.archive.require(f"stemi/{arm}/finetuned_model", "1").upstream}
    assert read - {"heartbeit/pretrained_checkpoint"} == {"stemi/cohort", "heartbeit/features"}
    assert ("heartbeit/pretrained_checkpoint" in read) == (arm == "probe")

    made = finetuned(again, arm)
    config, of = made.config(), start(again, arm)
    assert config["finetuning"] == {**vars(ProbeRecipe(seeds=(0, 1))), "c": list(ProbeRecipe().c), "seeds": [0, 1]}
    assert config["initialisation"] == ("masked image modelling" if of else "random initialisation")
    assert (made.folder / SETS).exists() == (arm == "probe")
    for seed, checkpoint in made.checkpoints().items():
        encoder = build_classifier(recipe_from(config["model"]), of.start(seed) if of else None, seed=seed)
        kept, before = checkpoint.state(), encoder.state_dict()
        changed = {name for name, tensor in kept.items() if not torch.equal(tensor, before[name])}
        assert changed == {"network.head.weight", "network.head.bias"}
    one, other = (checkpoint.state()["network.head.weight"] for checkpoint in made.checkpoints().values())
    assert torch.equal(one, other) == (arm == "probe"), "one pretrained network, two random ones"


@pytest.mark.parametrize("arm", ["probe", "guess"])
def test_a_frozen_arm_is_checked_and_evaluated_as_any_model(again, arm):
    record = again.workspace.archive.require(f"stemi/{arm}/finetuned_model", "1")
    assert {check.name for check in record.checks if check.passed} == {
        "pretraining_never_saw_it",
        "pretraining_saw_no_answers",
        "training_never_saw_it",
        "chosen_on_validation",
        "no_withdrawn_patients",
    }
    assert record.seeds.items() >= {"recipe.seeds.0": 0, "recipe.seeds.1": 1}.items()
    evaluation = Evaluation(folder_of(again, f"stemi/{arm}/evaluation", EVALUATED))
    about = evaluation.metrics()["model"]
    assert about["chosen_cs"] == finetuned(again, arm).chosen()["chosen_cs"]
    assert "C of the logistic regression by highest AUROC on validation patients" in about["chosen_by"]
    assert evaluation.thresholds().keys() == {0, 1}

    predictions = evaluation.predictions().filter(seed=1)
    view = ArrayShards(folder_of(again, "image_shards", SITE))
    classifier = load_classifier(finetuned(again, arm).checkpoints()[1])
    with torch.inference_mode():
        scores = classifier(torch.from_numpy(view.read_ecgs(predictions["ecg_id"]))).sigmoid()[:, 0]
    np.testing.assert_allclose(scores, predictions["score"], atol=1e-5)
    with open_instance(again.workspace.home) as instance:
        key = dg.AssetKey(["stemi", arm, "finetuned_model"])
        shown = instance.get_latest_materialization_event(key).asset_materialization.metadata
    assert shown["chosen_cs"].value == ", ".join(map(str, about["chosen_cs"]))
    assert {"curve_seed_0", "curve_seed_1", "chosen_by", "mlflow_run"} <= shown.keys()


def test_a_c_that_is_not_the_best_of_its_trace_is_held_back(again):
    honest = probe.fit_probe

    def choosing_the_worst(*arguments, **options):
        made = honest(*arguments, **options)
        path = made.folder / "seed_1" / "trace.parquet"
        write_parquet(path, pl.read_parquet(path).with_columns(validation_auroc=pl.col("validation_auroc") * -1))
        return made

    said = found_by_checks(again, [(probe, "fit_probe", choosing_the_worst)], "stemi/probe/finetuned_model", "1")
    assert re.search("chosen_on_validation found .*seed 1: c .* was chosen, but c .* is the best on validation", said)


@pytest.mark.acceptance
@pytest.mark.parametrize("name", ["stemi/probe/finetuned_model@1", "heartbeit/features@ptb_xl_like"])
def test_a_probe_and_its_features_have_the_same_digests_when_they_are_made_again(again, tmp_path, name):
    assert_reproduced(again, name, tmp_path)
