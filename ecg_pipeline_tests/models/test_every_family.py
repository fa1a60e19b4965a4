"""What holds for every family: its classifier, its fine-tuning, its pretraining.

Each runs for the small examples of `examples.ROWS`. Probes, files, maps and kills are tested in the modules beside this
one.
"""

import polars as pl
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.overrides import TorchFunctionMode

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.family import IMAGES, RANDOM
from ecg_pipeline.models.load import classifier_facts, load_classifier
from ecg_pipeline.models.start import start_of
from ecg_pipeline.storage.files import sha256_file
from ecg_pipeline.training import loop
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.loop import backward_and_step
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.score import score
from ecg_pipeline.training.weights import save_checkpoint
from ecg_pipeline_tests.models.examples import example_of, labels, of_pretrained_families, perturbed, same
from ecg_pipeline_tests.training.test_distributed import agree


def test_a_family_without_a_row_fails_with_what_to_do(tmp_path):
    with pytest.raises(pytest.fail.Exception, match="the family `novel` has no row in ROWS: add a small recipe"):
        example_of("novel", tmp_path)


def test_the_row_is_a_whole_example_of_its_family(example):
    family, row = example.family, example.row
    assert isinstance(row.recipe, family.recipe)
    assert FAMILIES[row.recipe.family] is family
    assert row.recipe.description
    shapes = {name: by_site["s"].read(0).shape[1:] for name, by_site in example.arrays.items()}
    family.check(row.recipe, shapes)
    assert (row.published is not None) == family.has_published_weights
    assert len(family.leads) == (0 if row.published is None or row.recipe.view == IMAGES else example.stored.shape[1])
    assert (row.pretraining is not None) == (family.pretraining is not None)
    if family.pretraining is None:
        assert not family.targets
        assert not family.fitted
        with pytest.raises(NotImplementedError, match="has no pretraining objective"):
            example.objective(0)
    else:
        assert isinstance(row.pretraining, family.pretraining)
        assert family.objective_name
        assert family.sees
        family.check_pretraining(row.recipe, row.pretraining, shapes)


def test_a_classifier_is_a_function_of_its_seed(example):
    made = []
    for chance, seed in enumerate((0, 0, 1)):
        torch.manual_seed(chance)  # must not matter
        before = torch.get_rng_state()
        made.append(example.classifier(seed).state_dict())
        assert torch.equal(torch.get_rng_state(), before)
    one, again, other = made
    assert same(one, again)
    assert not same(one, other)


def test_log_odds_are_the_head_on_the_features(example):
    classifier = perturbed(example.classifier())
    x = torch.from_numpy(example.stored[:5])
    with torch.inference_mode():
        log_odds, features = classifier(x), classifier.features(x)
        assert torch.equal(classifier.classify(features), log_odds)
        assert torch.equal(classifier.encode(classifier.normalise(x)), features)
    assert log_odds.shape == (5, 1)
    assert features.ndim == 2
    assert len(features) == 5
    assert log_odds.unique().numel() > 1


def test_a_blank_example_has_finite_log_odds(example):
    classifier = perturbed(example.classifier())
    stored = example.stored[:1]
    blank = torch.full_like(torch.from_numpy(stored), classifier.blank)
    with torch.inference_mode():
        assert classifier(blank).isfinite().all()


class FirstUse(TorchFunctionMode):
    """Notes in which order parameters are first used by torch's functions."""

    def __init__(self, parameters):
        super().__init__()
        self.wanted, self.order = {id(parameter) for parameter in parameters}, {}

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") != "__get__":
            for value in [*args, *kwargs.values()]:
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    if id(tensor) in self.wanted:
                        self.order.setdefault(id(tensor), len(self.order))
        return func(*args, **kwargs)


def test_stages_hold_every_parameter_once_from_the_input_to_the_head(example):
    classifier = perturbed(example.classifier())
    stages = [[id(parameter) for parameter in stage] for stage in classifier.stages()]
    held = [parameter for stage in stages for parameter in stage]
    assert len(stages) > 1
    assert all(stages)
    assert len(held) == len(set(held))
    assert set(held) == {id(parameter) for parameter in classifier.parameters()}

    x = torch.from_numpy(example.stored[:2])
    with FirstUse(classifier.parameters()) as used:
        features = classifier.features(x)
    in_order = [[used.order[parameter] for parameter in stage if parameter in used.order] for stage in stages]
    places = [place for stage in in_order if stage for place in (min(stage), max(stage))]
    assert places == sorted(places), "a stage is used before the one that comes before it"

    classifier.classify(features.detach()).sum().backward()
    head = {id(parameter) for parameter in classifier.parameters() if parameter.grad is not None}
    assert head
    assert head <= set(stages[-1])


def test_one_step_moves_every_stage(example):
    classifier = example.classifier().train()
    before = [[parameter.detach().clone() for parameter in stage] for stage in classifier.stages()]
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=1e-3, weight_decay=0.0)
    torch.manual_seed(0)
    log_odds = classifier(torch.from_numpy(example.stored[:8]))
    loss = binary_cross_entropy_with_logits(log_odds, torch.from_numpy(labels()[:8]).float()[:, None])
    assert loss.isfinite()
    backward_and_step(classifier, optimiser, loss=loss, clip=None, step=0)
    for old, new in zip(before, classifier.stages(), strict=True):
        assert any(not torch.equal(a, b) for a, b in zip(old, new, strict=True))
    assert all(parameter.isfinite().all() for parameter in classifier.parameters())


def tuned(example, out, start=None, layer_decay=1.0, **options):
    recipe = FinetuneRecipe(epochs=4, batch=8, max_learning_rate=3e-3, layer_decay=layer_decay)
    return finetune(
        lambda seed: example.classifier(seed, start.start(seed) if start else None),
        recipe,
        view=example.view,
        train=example.table[:16],
        selection=example.table[16:],
        facts=classifier_facts(example.row.recipe, start),
        out=out,
        **options,
    ).checkpoints()[0]


def weights(checkpoint):
    return sha256_file(checkpoint.folder / "weights.safetensors")


def cut(share):
    """A progress callback that ends a training when more than a share of it is done."""

    def progress(done, total):
        if done > total * share:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("layer_decay", [1.0, 0.7])
def test_a_killed_fine_tuning_goes_on_bit_for_bit(example, tmp_path, monkeypatch, layer_decay):
    monkeypatch.setattr(loop, "SAVE_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        tuned(example, tmp_path / "cut", layer_decay=layer_decay, progress=cut(0.5))
    steps = []
    resumed = tuned(example, tmp_path / "cut", layer_decay=layer_decay, progress=lambda done, total: steps.append(done))
    half = 4 * example.together
    assert steps == list(range(half + 1, 2 * half + 1))
    whole = tuned(example, tmp_path / "whole", layer_decay=layer_decay)
    assert weights(resumed) == weights(whole)
    losses = pl.read_parquet(whole.folder / "trace.parquet")["train_loss"]
    assert losses.is_finite().all()
    assert pl.read_parquet(resumed.folder / "trace.parquet")["train_loss"].equals(losses)
    assert not same(load_classifier(whole).state_dict(), example.classifier().state_dict())


def test_saving_and_loading_changes_no_score(example, tmp_path):
    classifier = perturbed(example.classifier())
    facts = classifier_facts(example.row.recipe, None)
    checkpoint = save_checkpoint(tmp_path, state=classifier.state_dict(), config=facts)
    assert checkpoint.config()["initialisation"] == RANDOM
    loaded = load_classifier(checkpoint)
    assert type(loaded) is type(classifier)
    assert not loaded.training
    batches = Batches(arrays={"view": example.view}, table=example.table)
    one, other = (score(network, batches, device="cpu") for network in (classifier, loaded))
    assert one.equals(other)
    assert one["score"].is_between(0, 1).all()
    assert one["score"].n_unique() > 1


@of_pretrained_families
def test_pretraining_moves_the_weights_and_a_classifier_starts_from_them(example, pretrained, tmp_path):
    (checkpoint,) = pretrained.checkpoints()
    trace = pl.read_parquet(checkpoint.folder / "trace.parquet")
    assert trace["loss"].is_finite().all()
    assert len(trace) == example.row.pretraining.epochs * example.batches.steps(example.row.pretraining.batch)
    objective = example.objective(0)
    assert checkpoint.state().keys() == objective.state().keys()
    assert not same(checkpoint.state(), objective.state())
    started, fresh = example.classifier(0, pretrained.start(0)).state_dict(), example.classifier(0).state_dict()
    assert not same(started, fresh)
    finetuned = tuned(example, tmp_path / "tuned", start=pretrained)
    assert finetuned.config()["initialisation"] == example.family.objective_name
    assert bool(start_of(finetuned.config()).labels) == ("labels" in example.family.sees)


@of_pretrained_families
def test_micro_batches_of_pretraining_change_rounding_only(example, pretrained, tmp_path):
    (whole,) = pretrained.checkpoints()
    (micro,) = example.pretrained(tmp_path / "micro", micro_batch_size=2).checkpoints()
    agree(whole, micro)


@of_pretrained_families
def test_two_processes_pretrain_as_one_up_to_rounding(example, pretrained, pretrained_by_two_processes):
    two = pretrained_by_two_processes[example.row.recipe.family]
    (one_checkpoint,), (two_checkpoint,) = pretrained.checkpoints(), two.checkpoints()
    agree(one_checkpoint, two_checkpoint)
    one_config, two_config = one_checkpoint.config(), two_checkpoint.config()
    assert one_config.pop("last_epoch") == pytest.approx(two_config.pop("last_epoch"), abs=2e-6)
    assert one_config == two_config
    assert pretrained.config() == two.config()
