"""Fine-tuning: what it learns, by which protocol, once a seed; and that a saved model is the trained one."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecg_pipeline.ecg import no_progress
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.load import build_classifier, classifier_facts, load_classifier
from ecg_pipeline.storage.files import sha256_file
from ecg_pipeline.training import finetune as finetuning
from ecg_pipeline.training import loop, tuning
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.schedules import one_cycle
from ecg_pipeline_tests.training.small import SHORT, TINY, pretrained


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


class Curves:
    """A tracker that stores what is logged."""

    def __init__(self):
        self.logged, self.names, self.points = {}, set(), []

    def parameters(self, values):
        self.logged |= values

    def metrics(self, step, values):
        self.names |= values.keys()
        self.points.append((step, dict(values)))


def tuned(examples, out, model=TINY, start=None, labels=None, tracker=None, progress=no_progress, **recipe):
    images, _, table = examples
    if labels is not None:
        table = table.with_columns(label=pl.Series(labels, dtype=pl.Int8))
    recipe = FinetuneRecipe(**({"epochs": 2, "batch": 8, "max_learning_rate": 3e-3} | recipe))
    return finetune(
        lambda seed: build_classifier(model, start.start(seed) if start else None, seed=seed),
        recipe,
        view={"s": images},
        train=table[:32],
        selection=table[32:],
        facts=classifier_facts(model, start),
        out=out,
        tracker=tracker,
        progress=progress,
    )


def weights(model):
    return {seed: sha256_file(made.folder / "weights.safetensors") for seed, made in model.checkpoints().items()}


def test_fine_tuning_from_a_pretrained_checkpoint_learns(examples, tmp_path):
    table = examples[2]
    start = pretrained(examples, tmp_path / "start", recipe=SHORT)
    model = tuned(examples, tmp_path / "tuned", start=start, epochs=12)
    config = model.config()
    assert model.checkpoints()[0].config()["validation_auroc"] > 0.95
    assert config["initialisation"] == "masked image modelling"
    assert config["chosen_by"] == "highest AUROC on validation patients"
    assert not config["optimistic"]
    assert (config["train_ecgs"], config["train_examples"], config["validation_ecgs"]) == (32, 32, 16)
    folder = model.checkpoints()[0].folder
    kept, chosen = pl.read_parquet(folder / "validation.parquet"), model.checkpoints()[0].config()
    assert kept.columns == ["ecg_id", "patient", "label", "score"]
    assert set(kept["ecg_id"]) == set(table["ecg_id"][32:])
    assert roc_auc_score(kept["label"], kept["score"]) == pytest.approx(chosen["validation_auroc"], abs=1e-12)


def test_fine_tuning_is_a_function_of_its_inputs_and_of_each_seed(examples, tmp_path):
    both = tuned(examples, tmp_path / "both", seeds=(3, 1))
    assert list(both.checkpoints()) == [3, 1]
    assert [made.config()["seed"] for made in both.checkpoints().values()] == [3, 1]
    alone = weights(tuned(examples, tmp_path / "alone", seeds=(1,)))
    assert weights(both)[1] == alone[1] != weights(both)[3]


def test_a_seed_that_is_complete_is_not_trained_again(examples, tmp_path):
    steps = []

    def until_the_second_seed(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(examples, tmp_path / "cut", seeds=(0, 1), progress=until_the_second_seed)
    assert not (tmp_path / "cut" / "config.json").exists()
    cut = tuned(examples, tmp_path / "cut", seeds=(0, 1), progress=lambda done, total: steps.append((done, total)))
    assert steps == [(done, 16) for done in range(9, 17)]
    assert weights(cut) == weights(tuned(examples, tmp_path / "whole", seeds=(0, 1)))


@pytest.mark.parametrize("model", [TINY, TimmRecipe(name="test_efficientnet")], ids=["heartbeit", "timm"])
def test_a_killed_fine_tuning_goes_on_bit_for_bit(examples, tmp_path, monkeypatch, model):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    steps = []

    def until_the_third_epoch(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(examples, tmp_path / "cut", model=model, epochs=4, progress=until_the_third_epoch)
    cut = tuned(examples, tmp_path / "cut", model=model, epochs=4, progress=lambda done, total: steps.append(done))
    assert steps == list(range(9, 17))
    assert weights(cut) == weights(tuned(examples, tmp_path / "whole", model=model, epochs=4))


@pytest.mark.parametrize("levels", [3, 10_000])
def test_the_auroc_that_chooses_an_epoch_is_scikit_learns(levels):
    rng = np.random.default_rng(levels)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, levels, 200) / levels
    assert tuning.rank_auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_curves_are_named_after_their_seed(examples, tmp_path):
    tracker = Curves()
    tuned(examples, tmp_path, seeds=(0, 5), tracker=tracker)
    curves = ("train_loss", "validation_loss", "validation_auroc", "epoch")
    assert tracker.names == {f"seed_{seed}/{curve}" for seed in (0, 5) for curve in curves}
    assert tracker.logged["chosen_by"] == "highest AUROC on validation patients"


def test_a_run_that_finds_a_seed_done_logs_its_curves(examples, tmp_path):
    first, again = Curves(), Curves()
    tuned(examples, tmp_path, tracker=first)
    tuned(examples, tmp_path, tracker=again)
    assert again.points == first.points
    assert first.points


def test_the_official_protocol_says_that_it_is_optimistic(examples, tmp_path):
    model = tuned(examples, tmp_path, protocol="official")
    config = model.config()
    assert config["chosen_by"] == "highest AUROC on test patients: optimistic"
    assert config["optimistic"] is True
    assert config["test_ecgs"] == 16
    assert "validation_ecgs" not in config
    assert not (model.checkpoints()[0].folder / "validation.parquet").exists()
    trace = pl.read_parquet(model.checkpoints()[0].folder / "trace.parquet")
    assert trace.columns == ["epoch", "train_loss", "test_loss", "test_auroc"]
    assert model.checkpoints()[0].config()["test_auroc"] == trace["test_auroc"].max()


@pytest.mark.parametrize("protocol", ["honest", "official"])
@pytest.mark.parametrize(("optimiser", "kind"), [("adamw", torch.optim.AdamW), ("adam", torch.optim.Adam)])
@pytest.mark.parametrize("decay", [0.01, 0.0])
def test_the_optimiser_is_the_recipes(protocol, optimiser, kind, decay):
    recipe = FinetuneRecipe(protocol=protocol, optimiser=optimiser, weight_decay=decay)
    classifier = build_classifier(TINY, None, seed=0)
    made = finetuning._optimiser(recipe, classifier)
    assert type(made) is kind
    (group,) = made.param_groups
    assert {id(parameter) for parameter in group["params"]} == {id(parameter) for parameter in classifier.parameters()}
    assert group["weight_decay"] == decay
    schedule = one_cycle(made, peak=recipe.max_learning_rate, epochs=20, steps_per_epoch=5)
    assert schedule.get_last_lr() == [pytest.approx(4e-5)]


def test_adam_and_adamw_give_other_weights_and_both_learn(examples, tmp_path):
    adam, adamw = (
        tuned(examples, tmp_path / name, optimiser=name, epochs=12, weight_decay=0.0 if name == "adam" else 0.01)
        for name in ("adam", "adamw")
    )
    assert adam.config()["finetuning"]["optimiser"] == "adam"
    assert weights(adam) != weights(adamw)
    for model in (adam, adamw):
        trace = pl.read_parquet(model.checkpoints()[0].folder / "trace.parquet")
        assert trace["train_loss"][-1] < trace["train_loss"][0]


def test_a_layer_decay_gives_each_stage_its_learning_rate_from_the_head_down():
    recipe = FinetuneRecipe(max_learning_rate=1e-3, layer_decay=0.5)
    classifier = build_classifier(TINY, None, seed=0)
    made = finetuning._optimiser(recipe, classifier)
    stages = classifier.stages()
    assert [group["lr"] for group in made.param_groups] == [1e-3 * 0.5**above for above in reversed(range(len(stages)))]
    for group, stage in zip(made.param_groups, stages, strict=True):
        assert [id(parameter) for parameter in group["params"]] == [id(parameter) for parameter in stage]
    schedule = one_cycle(made, peak=[group["lr"] for group in made.param_groups], epochs=20, steps_per_epoch=5)
    assert schedule.get_last_lr() == pytest.approx([4e-5 * 0.5**above for above in reversed(range(len(stages)))])


def test_a_layer_decay_trains_the_head_most(examples, tmp_path):
    model = tuned(examples, tmp_path, layer_decay=0.1, epochs=1, weight_decay=0.0)
    before, after = build_classifier(TINY, None, seed=0), load_classifier(model.checkpoints()[0])
    moved = [
        max(float((a - b).detach().abs().max()) for a, b in zip(old, new, strict=True))
        for old, new in zip(before.stages(), after.stages(), strict=True)
    ]
    assert moved == sorted(moved)
    assert 0 < moved[0] < moved[-1] / 20


def test_training_ecgs_of_one_label_give_an_output_that_says_so(examples, tmp_path):
    tracker = Curves()
    model = tuned(examples, tmp_path, labels=[0] * 32 + [0, 1] * 8, tracker=tracker, seeds=(0, 1))
    assert model.not_trained == "not trained: the 32 training ECGs of this fraction hold one label"
    assert model.checkpoints() == {}
    assert model.chosen() == {}
    assert (model.seeds(), model.config()["train_positives"]) == ([0, 1], 0)
    assert tracker.logged["not_trained"] == model.not_trained
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_where_nothing_can_be_compared_the_last_epoch_counts(examples, tmp_path):
    model = tuned(examples, tmp_path, labels=[0, 1] * 16 + [0] * 16)
    assert model.config()["chosen_by"] == "the last epoch: the validation patients do not have both labels"
    assert model.config()["chosen_epochs"] == [2]


@pytest.mark.parametrize("model", [TINY, TimmRecipe(name="test_resnet"), TimmRecipe(name="test_efficientnet")])
def test_a_saved_classifier_gives_the_same_log_odds(examples, tmp_path, model):
    images, _, table = examples
    checkpoint = tuned(examples, tmp_path, model=model, epochs=1).checkpoints()[0]
    batch = torch.from_numpy(images.read_ecgs(table["ecg_id"].head(4)))
    loaded, again = load_classifier(checkpoint), load_classifier(checkpoint)
    with torch.inference_mode():
        assert torch.equal(loaded(batch), again(batch))
    assert checkpoint.config()["initialisation"] == "random initialisation"


def test_normalisation_is_part_of_the_model():
    classifier = build_classifier(TINY, None, seed=0)
    seen = []
    classifier.network.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    classifier(torch.tensor([0, 255], dtype=torch.uint8).repeat_interleave(64 * 64).reshape(2, 64, 64))
    assert seen[0].shape == (2, 3, 64, 64)
    assert (seen[0][0] == -1).all()
    assert (seen[0][1] == 1).all()


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 0},
        {"batch": 1},
        {"seeds": ()},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
    ],
)
def test_impossible_recipes_are_refused(values):
    with pytest.raises(ValueError, match=r"at least|seed|layer_decay"):
        FinetuneRecipe(**values)
