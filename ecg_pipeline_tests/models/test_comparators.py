"""Comparators: any of timm's networks, from a local file or from a seed."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from ecg_pipeline.models.comparators import comparator
from ecg_pipeline.models.recipes import TimmRecipe

RESNET = TimmRecipe(name="test_resnet")


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_two_logits_at_the_images_size(name):
    model = comparator(TimmRecipe(name=name), None, classes=2, seed=0).eval()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 2)


def test_another_image_size():
    model = comparator(TimmRecipe(name="test_vit", image_px=64), None, classes=2, seed=0).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_random_initialisation_is_its_seeds_and_nobody_elses():
    state = torch.get_rng_state()
    one, again, other = (comparator(RESNET, None, classes=2, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_published_weights_are_loaded_but_for_the_last_layer(tmp_path, suffix):
    state = timm.create_model("test_resnet").state_dict()
    path = tmp_path / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, path)
    own = comparator(RESNET, path, classes=2, seed=0).state_dict()
    assert {name for name in own if own[name].shape != state[name].shape} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(own[name], state[name]) for name in own if not name.startswith("fc."))


def test_buffers_that_the_network_computes_may_stand_in_a_file(tmp_path):
    recipe = TimmRecipe(name="vit_relpos_small_patch16_224")
    state = comparator(recipe, None, classes=2, seed=5).state_dict()
    state["blocks.0.attn.rel_pos.relative_position_index"] = torch.zeros(196, 196, dtype=torch.long)
    save_file(state, tmp_path / "w.safetensors")
    loaded = comparator(recipe, tmp_path / "w.safetensors", classes=2, seed=0)
    assert loaded.get_buffer("blocks.0.attn.rel_pos.relative_position_index").any()
    assert torch.equal(loaded.get_parameter("head.weight"), state["head.weight"])


def test_weights_of_two_classes_keep_their_last_layer(tmp_path):
    trained = comparator(RESNET, None, classes=2, seed=5).state_dict()
    save_file(trained, tmp_path / "w.safetensors")
    loaded = comparator(RESNET, tmp_path / "w.safetensors", classes=2, seed=0).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())


def test_weights_of_another_network_are_an_error_that_lists_them(tmp_path):
    state = comparator(RESNET, None, classes=2, seed=0).state_dict()
    del state["layer1.0.conv1.weight"]
    state["stray"] = torch.zeros(1)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"missing layer1\.0\.conv1\.weight; unexpected stray"):
        comparator(RESNET, tmp_path / "w.safetensors", classes=2, seed=0)


def test_an_unknown_network_is_an_error():
    with pytest.raises(ValueError, match="timm has no model `resnet_of_nobody`"):
        comparator(TimmRecipe(name="resnet_of_nobody"), None, classes=2, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "hf-hub:somebody/model"}, "not downloaded"),
        ({"name": "local-dir:/elsewhere"}, "not downloaded"),
        ({"weights": "../w.safetensors"}, "without a folder"),
        ({"std": (0.0, 1.0, 1.0)}, "positive"),
        ({"image_px": 0}, "at least 1"),
    ],
)
def test_impossible_recipes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TimmRecipe(**values)
