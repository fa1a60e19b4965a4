"""What each model starts from: its own pretraining, that of its seed, or nothing; and whose ECGs that has seen."""

import re

import dagster as dg
import polars as pl
import pytest
import torch

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.pretraining_set import COLUMNS, SETS
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.orchestration.assets import training
from ecg_pipeline.orchestration.checks import check_result
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline.training.checkpoints import FinetunedModel, PretrainedModel
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

SITE, FRACTION, SEEDS = "mount_sinai", "1", (0, 1)
SHAPE = "family: heartbeit, width: 32, depth: 2, heads: 2"
RECIPE = "epochs: 1, batch: 16, learning_rate: 1.0e-3, warmup_epochs: 0"
ARMS = "scratch: {like: heartbeit, pretrained: false}, gentle: {like: heartbeit}"
CHANGES = {
    "models": f"{{seeded: {{{SHAPE}}}, leaked: {{{SHAPE}}}, {ARMS}}}",
    "pretraining": f"{{seeded: {{recipe: {{{RECIPE}, seeds: [1, 0]}}}}, leaked: {{recipe: {{{RECIPE}}}}}}}",
    "tasks": "{hcm: {models: [heartbeit, small_cnn, seeded, leaked, scratch, gentle]}}",
    # A fine-tuning that leaves the weights where they were, so that they tell where they come from.
    "finetuning": "{seeds: [0, 1], max_learning_rate: 1.0e-10, models: {gentle: {layer_decay: 0.5}}}",
}
BLOCKS = r"(blocks\.\d+\.mlp\.fc1\.weight)$"
CHECK = "pretraining_never_saw_it"


@pytest.fixture(scope="module")
def again(runner, small_study, tmp_path_factory):
    """The small study in a home of its own, with models more: one of two pretrained seeds, and one from nothing."""
    folder = tmp_path_factory.mktemp("starts")
    with pytest.MonkeyPatch.context() as patch:
        changed = with_changes(small_study, folder, **CHANGES)
        opened = copied_runner(runner, changed, folder / "home", patch)
        models = [f"hcm/{model}/finetuned_model" for model in ("heartbeit", "seeded", "scratch")]
        assert opened.run_stale(["seeded/pretrained_checkpoint", *models], [FRACTION])
        yield opened


def pretrained(runner, model):
    archive = runner.workspace.archive
    return PretrainedModel(archive.folder(archive.require(f"{model}/pretrained_checkpoint", None)))


def finetuned(runner, model):
    archive = runner.workspace.archive
    return FinetunedModel(archive.folder(archive.require(f"hcm/{model}/finetuned_model", FRACTION)))


def blocks(checkpoint):
    """Weights that pretrained and fine-tuned networks have under the same name."""
    found = {match[1]: tensor for name, tensor in checkpoint.state().items() if (match := re.search(BLOCKS, name))}
    assert len(found) == 2
    return torch.cat([found[name].flatten() for name in sorted(found)])


def is_start(checkpoint, of):
    return torch.allclose(blocks(checkpoint), blocks(of), rtol=0, atol=1e-6)


def test_each_seed_of_a_pretraining_is_a_network_of_its_own(again):
    seeded, single = pretrained(again, "seeded"), pretrained(again, "heartbeit")
    assert seeded.config()["checkpoints"] == ["seed_1", "seed_0"]
    assert [one.config()["seed"] for one in seeded.checkpoints()] == [1, 0]
    assert not is_start(seeded.start(0), seeded.start(1))
    assert single.config()["checkpoints"] == ["seed_0"]
    # The same recipe and the same patients: a seed gives its network whatever other seeds there are.
    for name, tensor in single.start(0).state().items():
        assert torch.equal(tensor, seeded.start(0).state()[name])


def test_a_seed_of_fine_tuning_starts_from_the_network_of_that_seed(again):
    start, tuned = pretrained(again, "seeded"), finetuned(again, "seeded").checkpoints()
    assert tuple(tuned) == SEEDS
    for seed, other in (SEEDS, SEEDS[::-1]):
        assert is_start(tuned[seed], start.start(seed))
        assert not is_start(tuned[seed], start.start(other))
        assert tuned[seed].config()["started_from"][str(seed)] == f"seed_{seed}"


def test_every_seed_of_fine_tuning_starts_from_the_only_pretrained_network(again):
    (only,), tuned = pretrained(again, "heartbeit").checkpoints(), finetuned(again, "heartbeit").checkpoints()
    assert tuple(tuned) == SEEDS
    assert all(is_start(checkpoint, only) for checkpoint in tuned.values())
    assert set(tuned[SEEDS[0]].config()["started_from"].values()) == {"seed_0"}
    assert not torch.equal(*(one.state()["network.head.weight"] for one in tuned.values())), "a head a seed"


def test_an_arm_without_pretraining_depends_on_none_and_says_so(again):
    graph = again.definitions.resolve_asset_graph()
    keys = {model: dg.AssetKey(["hcm", model, "finetuned_model"]) for model in ("heartbeit", "scratch")}
    start = dg.AssetKey(["heartbeit", "pretrained_checkpoint"])
    assert graph.get(keys["heartbeit"]).parent_keys - graph.get(keys["scratch"]).parent_keys == {start}
    assert dg.AssetKey(["scratch", "pretrained_checkpoint"]) not in graph.get_all_asset_keys()

    archive = again.workspace.archive
    records = {model: archive.require(f"hcm/{model}/finetuned_model", FRACTION) for model in keys}
    assert records["scratch"].identity == records["heartbeit"].identity, "the same network, tuned in the same way"
    read = {model: {entry.asset for entry in record.upstream} for model, record in records.items()}
    assert read["heartbeit"] - read["scratch"] == {"heartbeit/pretrained_checkpoint"}

    made = finetuned(again, "scratch")
    assert made.config()["initialisation"] == "random initialisation"
    assert made.config()["model"] == finetuned(again, "heartbeit").config()["model"]
    assert not (made.folder / SETS).exists()
    for checkpoint in made.checkpoints().values():
        assert not is_start(checkpoint, pretrained(again, "heartbeit").start(0))
    with open_instance(again.workspace.home) as instance:
        event = instance.get_latest_materialization_event(keys["scratch"])
        assert event.asset_materialization.metadata["initialisation"].value == "random initialisation"
        said = held(instance, keys["scratch"])
    assert said.passed
    assert said.metadata["note"].value == "nothing was pretrained: random initialisation"


def test_an_arm_with_another_fine_tuning_starts_from_the_pretraining_that_it_is_like(again):
    graph = again.definitions.resolve_asset_graph()
    parents = {
        model: graph.get(dg.AssetKey(["hcm", model, "finetuned_model"])).parent_keys
        for model in ("heartbeit", "gentle")
    }
    assert parents["gentle"] == parents["heartbeit"]


def held(instance, key):
    """How the check of what a pretraining saw last ended."""
    check = dg.AssetCheckKey(key, CHECK)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key([check])[check].evaluation


@pytest.fixture(scope="module")
def tested(again):
    """An ECG that a model of the study is tested on, as a row of the cohort."""
    archive = again.workspace.archive
    table = Cohort(archive.folder(archive.require("hcm/cohort", None))).table()
    return table.filter((pl.col("split") == "test") & (pl.col("site") == SITE)).sort("ecg_id").head(1)


@pytest.fixture(scope="module")
def planted(again, tested):
    """The same home after one model alone was pretrained on that ECG, too."""
    honest = training.pretraining_set

    def leaking(*arguments):
        return pl.concat([honest(*arguments), tested.select(COLUMNS)])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "pretraining_set", leaking)
        assert again.run_stale(["leaked/pretrained_checkpoint"])
    return again


def evaluate(runner, model):
    return runner.run_stale([f"hcm/{model}/evaluation"], [f"{FRACTION}|{SITE}"])


def test_a_leak_into_one_pretraining_holds_back_the_models_that_start_from_it(planted, tested):
    (leaked,) = tested["ecg_id"]
    found = f"{CHECK} found .*1 ECGs of the test split were seen by the pretraining: {leaked}"
    with pytest.raises(RunsFailed, match=found):
        planted.run_stale(["hcm/leaked/finetuned_model"], [FRACTION])
    # Were the first check blind, the second one would see it.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, CHECK, lambda *_: check_result(CHECK, []))
        assert planted.run_stale(["hcm/leaked/finetuned_model"], [FRACTION])
    with pytest.raises(RunsFailed, match=found):
        evaluate(planted, "leaked")
    assert planted.workspace.archive.newest("hcm/leaked/evaluation", f"{FRACTION}|{SITE}") is None


@pytest.mark.parametrize("model", ["heartbeit", "seeded", "scratch"])
def test_a_leak_into_one_pretraining_leaves_the_other_models_alone(planted, tested, model):
    assert evaluate(planted, model)
    archive = planted.workspace.archive
    made = Evaluation(archive.folder(archive.require(f"hcm/{model}/evaluation", f"{FRACTION}|{SITE}")))
    assert tested["ecg_id"][0] in set(made.predictions()["ecg_id"])
