"""BEiT gives the reference implementation's numbers on the same weights."""

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from ecg_pipeline.models.beit import MaskedImageModel, beit_classifier, from_pretraining, masked_image_model
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.models.relative_position import resize_table

TINY = BeitRecipe(image_px=32, patch_px=16, width=32, depth=2, heads=2)


@pytest.fixture
def golden(shared):
    def read(kind):
        folder = shared / "golden" / "heartbeit"
        tensors = load_file(folder / f"{kind}.safetensors")
        return json.loads((folder / f"{kind}.json").read_text()), tensors

    return read


def named(tensors, prefix):
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def recipe_of(config, image):
    return BeitRecipe(
        image_px=config[image],
        patch_px=config["patch"],
        width=config["dim"],
        depth=config["depth"],
        heads=config["heads"],
        mlp_ratio=config["mlp_ratio"],
    )


def test_pretraining_forward_loss_and_gradients(golden):
    facts, tensors = golden("beit_pretrain")
    model = MaskedImageModel(recipe_of(facts["config"], "img"), facts["config"]["vocab"]).eval()
    model.load_official_state(named(tensors, "state."))
    images, mask = tensors["input.images"], tensors["input.bool_masked_pos"].bool()
    torch.testing.assert_close(model.features(images, mask), tensors["output.features"], atol=2e-5, rtol=0)
    logits = model(images, mask)
    torch.testing.assert_close(logits, tensors["output.logits_masked"], atol=2e-5, rtol=0)
    loss = cross_entropy(logits, tensors["input.token_ids"][mask].long())
    torch.testing.assert_close(loss.reshape(1), tensors["output.loss"], atol=1e-5, rtol=0)
    loss.backward()
    own = {name.removeprefix("beit.").replace("head.", "lm_head."): p.grad for name, p in model.named_parameters()}
    gradients = named(tensors, "grad.")
    assert gradients
    for name, expected in gradients.items():
        torch.testing.assert_close(own[name], expected, atol=1e-4 * float(expected.abs().max()), rtol=0)


@pytest.mark.parametrize("kind", ["beit_finetune_same", "beit_finetune_interp"])
def test_classifier_forward(golden, kind):
    facts, tensors = golden(kind)
    recipe = recipe_of(facts["config"], "img")
    model = beit_classifier(recipe, None, facts["config"]["num_classes"], seed=0).eval()
    state = {k: v for k, v in named(tensors, "state.").items() if "relative_position_index" not in k}
    model.load_state_dict(state, strict=True)
    features = model.forward_head(model.forward_features(tensors["input.images"]), pre_logits=True)
    torch.testing.assert_close(features, tensors["output.pooled"], atol=1e-5, rtol=0)
    torch.testing.assert_close(model(tensors["input.images"]), tensors["output.logits"], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["beit_finetune_same", "beit_finetune_interp"])
def test_a_pretraining_checkpoint_becomes_the_classifier_the_reference_makes_of_it(golden, kind):
    facts, tensors = golden(kind)
    _, pretrained = golden("beit_pretrain")
    start = named(pretrained, "state.") | named(tensors, "ckpt.")
    made = from_pretraining(recipe_of(facts["config"], "img"), start)
    expected = {k: v for k, v in named(tensors, "state.").items() if not k.startswith(("fc_norm.", "head."))}
    assert made.keys() == {name for name in expected if "relative_position_index" not in name}
    for name, tensor in made.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=0)


def test_tables_are_resized_by_the_authors_rule(golden):
    facts, tensors = golden("relpos_resize")
    for source, target in facts["pairs_window_src_dst"]:
        resized = resize_table(tensors[f"src_{source}_{target}"], target)
        torch.testing.assert_close(resized, tensors[f"dst_{source}_{target}"], atol=1e-5, rtol=0)


def test_base_size_counts_the_papers_parameters():
    with torch.device("meta"):
        model = MaskedImageModel(BeitRecipe(), vocabulary=8192)
    head = sum(p.numel() for p in model.beit.head.parameters())
    total = sum(p.numel() for p in model.parameters())
    assert (total, total - head) == (91_965_776, 85_666_128)


def test_official_names_round_trip():
    model, other = masked_image_model(TINY, 7, seed=0), MaskedImageModel(TINY, 7)
    other.load_official_state(model.official_state())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_half_loaded_model_is_an_error_that_names_the_keys():
    state = masked_image_model(TINY, 7, seed=0).official_state()
    state["nonsense"] = state.pop("norm.bias")
    with pytest.raises(ValueError, match=r"missing beit\.norm\.bias.*unexpected beit\.nonsense"):
        MaskedImageModel(TINY, 7).load_official_state(state)
    state = masked_image_model(TINY, 7, seed=0).official_state()
    del state["blocks.1.mlp.fc1.weight"]
    with pytest.raises(ValueError, match=r"missing blocks\.1\.mlp\.fc1\.weight"):
        beit_classifier(TINY, state, 2, seed=0)


def test_initialisation_is_the_authors():
    model = masked_image_model(BeitRecipe(depth=2), 512, seed=0).official_state()
    weight = model["blocks.0.mlp.fc1.weight"]
    assert weight.abs().max() <= 0.02 + 1e-6
    assert weight.std().item() == pytest.approx(0.0108, rel=0.02)
    assert model["blocks.1.attn.proj.weight"].std().item() == pytest.approx(0.0108 / 2, rel=0.03)
    assert float(model["norm.weight"].min()) == 1.0
    assert float(model["blocks.0.gamma_1"].min()) == pytest.approx(0.1)
