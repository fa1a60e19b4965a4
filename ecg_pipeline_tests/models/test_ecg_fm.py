"""What only ECG-FM has: pairs and groups, staged rates, files of its authors' two kinds, recipes that cannot be."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.ecg_fm import FAMILY
from ecg_pipeline.models.ecg_fm.classifier import ecg_fm_classifier
from ecg_pipeline.models.ecg_fm.network import HEADS, ecg_fm_model
from ecg_pipeline.models.ecg_fm.objective import ecg_fm_objective
from ecg_pipeline.models.ecg_fm.recipes import (
    PAPER_STAGES,
    EcgFmPretraining,
    EcgFmRecipe,
    GumbelRecipe,
    LeadMaskRecipe,
    SpanMaskRecipe,
)

TINY = EcgFmRecipe(
    conv_widths=(8, 8),
    conv_kernels=(2, 2),
    conv_strides=(2, 2),
    width=16,
    depth=1,
    heads=2,
    mlp_width=24,
    position_kernel=4,
    position_groups=2,
    codes=6,
    contrast_width=8,
)
SHORT = EcgFmPretraining(batch=8, pairs=2, mask=SpanMaskRecipe(length=3), negatives=5)


@pytest.fixture(scope="module")
def state():
    return ecg_fm_model(TINY, SHORT, seed=3).state_dict()


def test_the_papers_rates_are_an_option():
    fixed = EcgFmPretraining().learning_rates(3)
    assert len(fixed) == 600
    assert set(fixed) == {5e-5}
    staged = EcgFmPretraining(epochs=240, stages=PAPER_STAGES).learning_rates(2)
    assert len(staged) == 480
    assert staged[[0, 9, 10, 399, 400, -1]].tolist() == [1e-4, 1e-4, 8e-5, 8e-5, 5e-5, 5e-5]


def test_what_is_random_is_a_function_of_seed_step_and_group():
    x = np.random.default_rng(0).normal(0, 1, (8, 12, 200)).astype(np.float32)
    arrays = {TINY.view: x}
    objective = ecg_fm_objective(TINY, SHORT, seed=1)
    assert objective.group == 4

    def sampled(places, step=0, objective=objective, arrays=arrays):
        return objective.micro_batch(arrays, places, step=step, device="cpu")

    one = sampled(range(4, 8))
    again = sampled(range(4, 8), arrays={TINY.view: np.concatenate([np.zeros_like(x[:4]), x[4:]])})
    for name in ("segments", "mask", "negatives"):
        assert torch.equal(getattr(one, name), getattr(again, name))
    assert one.seed == again.seed
    for other in (
        sampled(range(4)),
        sampled(range(4, 8), step=1),
        sampled(range(4, 8), objective=replace(objective, seed=2)),
    ):
        assert not torch.equal(one.mask, other.mask)
        assert one.seed != other.seed
    kept = (one.segments != 0).all(dim=2)
    assert torch.equal(kept, (one.segments != 0).any(dim=2)), "a lead is masked for a part of its segment"
    assert torch.equal(one.segments[kept], torch.from_numpy(x[4:])[kept])
    assert 0 < kept.float().mean() < 1
    assert not torch.equal(kept[0], kept[1]), "the two segments of a recording have the same leads masked"
    assert (one.mask.sum(dim=1) == one.negatives.shape[1]).all()
    assert objective.count(one).sum() == one.mask.sum()


def test_a_smaller_batch_is_one_group():
    objective = ecg_fm_objective(TINY, replace(SHORT, pairs=64), seed=0)
    arrays = {TINY.view: np.random.default_rng(0).normal(0, 1, (6, 12, 200)).astype(np.float32)}
    group = objective.micro_batch(arrays, range(6), step=0, device="cpu")
    sums = objective.backward(objective.network.train(), group, weight=1 / int(group.mask.sum()))
    point = objective.point(sums, int(group.mask.sum()))
    terms = ("contrast", "diversity", "penalty", "cmsc")
    assert point["loss"] == pytest.approx(sum(point[term] for term in terms), rel=1e-5)
    assert point["contrast"] == pytest.approx(np.log(6), abs=3)  # five negatives
    assert 1 <= point["code_perplexity"] <= 2 * TINY.codes
    assert all(parameter.grad is not None for parameter in objective.network.parameters())


def written(state, path):
    torch.save({"args": None, "cfg": {"model": {"encoder_layers": 1}}, "model": state}, path)
    return path


def test_a_fine_tuned_file_is_imported_without_its_last_layer(tmp_path, state):
    classifier = ecg_fm_classifier(TINY, state, seed=0, labels=17)
    file = written(classifier.state_dict(), tmp_path / "physionet_finetuned.pt")
    imported = FAMILY.import_weights(file, TINY, tmp_path / "out")
    assert imported.config()["origin"] == "fine-tuned elsewhere, imported from physionet_finetuned.pt"
    assert imported.config()["sees"] == "ECGs, labels"
    assert imported.state().keys() == {name for name in state if not name.startswith(HEADS)}
    started = FAMILY.classifier(TINY, imported, seed=0)
    x = torch.randn(2, 12, 200, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(started.eval().features(x), classifier.eval().features(x))


@pytest.mark.parametrize("part", HEADS)
def test_what_only_pretraining_needs_may_be_absent_as_a_whole(tmp_path, state, part):
    without = {name: tensor for name, tensor in state.items() if not name.startswith(part)}
    imported = FAMILY.import_weights(written(without, tmp_path / "a.pt"), TINY, tmp_path / "out")
    assert imported.state().keys() == without.keys()


def test_a_part_of_a_quantiser_and_another_size_are_refused(tmp_path, state):
    part = {name: tensor for name, tensor in state.items() if name != "quantizer.vars"}
    with pytest.raises(ValueError, match=r"missing quantizer\.vars"):
        FAMILY.import_weights(written(part, tmp_path / "a.pt"), TINY, tmp_path / "out")
    with pytest.raises(ValueError, match=r"missing encoder\.layers\.1\.self_attn.*mask_emb is \(16,\), not \(32,\)"):
        FAMILY.import_weights(written(state, tmp_path / "a.pt"), replace(TINY, depth=2, width=32), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "values", "key"),
    [
        (EcgFmRecipe, {"heads": 7}, "heads"),
        (EcgFmRecipe, {"position_groups": 5}, "position_groups"),
        (EcgFmRecipe, {"code_width": 9}, "codebooks"),
        (EcgFmRecipe, {"conv_kernels": (2, 2)}, "conv_widths"),
        (EcgFmRecipe, {"conv_widths": (), "conv_kernels": (), "conv_strides": ()}, "conv_widths"),
        (EcgFmRecipe, {"codes": 1}, "codes"),
        (EcgFmRecipe, {"attention_dropout": 1.0}, "attention_dropout"),
        (EcgFmPretraining, {"stages": PAPER_STAGES}, "stages"),
        (EcgFmPretraining, {"epochs": 3, "stages": ((3, 0.0),)}, "stages"),
        (EcgFmPretraining, {"batch": 1}, "batch"),
        (EcgFmPretraining, {"betas": (0.9, 1.0)}, "betas"),
        (EcgFmPretraining, {"pairs": 0}, "pairs"),
        (EcgFmPretraining, {"batch": 12, "pairs": 4, "partners": "fixed"}, "batch"),
        (SpanMaskRecipe, {"share": 0.0}, "share"),
        (LeadMaskRecipe, {"share": 1.1}, "share"),
        (GumbelRecipe, {"last": 3.0}, "last"),
    ],
)
def test_an_impossible_recipe_names_its_key(kind, values, key):
    with pytest.raises(RecipeError) as error:
        kind(**values)
    assert error.value.keys[0] == key


def test_a_window_that_does_not_fit_is_named():
    FAMILY.check(TINY, {TINY.view: (12, 200)})
    for shape, key in (((8, 200), "leads"), ((12, 3), "window")):
        with pytest.raises(RecipeError) as error:
            FAMILY.check(TINY, {TINY.view: shape})
        assert error.value.keys[0] == key
    FAMILY.check_pretraining(EcgFmRecipe(), EcgFmPretraining(), {EcgFmRecipe().view: (12, 2500)})
    with pytest.raises(RecipeError, match="a segment of 10 frames has no room for 2 spans of 10") as error:
        FAMILY.check_pretraining(TINY, EcgFmPretraining(), {TINY.view: (12, 40)})
    assert error.value.keys[0] == "mask.length"
