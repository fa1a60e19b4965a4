"""Comparators: any of timm's networks, from a published file or from a seed."""

import pytest
import timm
import torch
from safetensors.torch import save_file

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.comparators.network import comparator
from ecg_pipeline.models.comparators.recipes import TimmRecipe

RESNET = TimmRecipe(name="test_resnet")
TIMM = FAMILIES["timm"]


def imported(state, recipe, folder, suffix="safetensors"):
    """The checkpoint that a file with a state becomes."""
    file = folder / f"weights.{suffix}"
    (save_file if suffix == "safetensors" else torch.save)(state, file)
    return TIMM.import_weights(file, recipe, folder / "imported")


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit"])
def test_so_many_outputs_at_the_images_size(name, outputs):
    model = comparator(TimmRecipe(name=name), None, outputs=outputs, seed=0).eval()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, outputs)


def test_another_image_size():
    model = comparator(TimmRecipe(name="test_vit", image_px=64), None, outputs=1, seed=0).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 1)


@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_vit", "mobilenetv3_small_050"])
def test_features_and_head_are_the_whole_of_timms_network(name):
    recipe = TimmRecipe(name=name, image_px=160 if name == "test_vit" else 224)
    classifier = TIMM.classifier(recipe, None, seed=0).eval()
    images = torch.randint(0, 256, (2, recipe.image_px, recipe.image_px), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(classifier(images), classifier.network(classifier.normalise(images)))


@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_images_are_averaged_over_rectangles_before_the_network(name):
    recipe = TimmRecipe(name=name, image_px=64, average_px=(4, 2))
    classifier = TIMM.classifier(recipe, None, seed=0).eval()
    images = torch.randint(0, 256, (2, 64, 64), dtype=torch.uint8)
    averaged = classifier.normalise(images).reshape(2, 3, 16, 4, 32, 2).mean(dim=(3, 5))
    with torch.inference_mode():
        torch.testing.assert_close(classifier(images), classifier.network(averaged))


def test_rectangles_that_do_not_tile_the_image_are_refused():
    with pytest.raises(RecipeError, match="3 x 1 px do not tile an image of 224 px"):
        TimmRecipe(average_px=(3, 1))


def test_a_network_with_two_heads_is_refused():
    with pytest.raises(ValueError, match="`deit_tiny_distilled_patch16_224` has 2 heads"):
        TIMM.classifier(TimmRecipe(name="deit_tiny_distilled_patch16_224"), None, seed=0)


def test_random_initialisation_is_its_seeds_and_nobody_elses():
    state = torch.get_rng_state()
    one, again, other = (comparator(RESNET, None, outputs=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), again.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_published_weights_are_loaded_but_for_the_last_layer(tmp_path, suffix):
    state = timm.create_model("test_resnet").state_dict()
    start = imported(state, RESNET, tmp_path, suffix)
    assert start.config()["origin"] == f"published weights weights.{suffix}"
    own = TIMM.classifier(RESNET, start, seed=0).network.state_dict()
    assert {name for name in own if own[name].shape != state[name].shape} == {"fc.weight", "fc.bias"}
    assert all(torch.equal(own[name], state[name]) for name in own if not name.startswith("fc."))


def test_buffers_that_the_network_computes_may_stand_in_a_file(tmp_path):
    recipe = TimmRecipe(name="vit_relpos_small_patch16_224")
    state = comparator(recipe, None, outputs=1, seed=5).state_dict()
    state["blocks.0.attn.rel_pos.relative_position_index"] = torch.zeros(196, 196, dtype=torch.long)
    loaded = TIMM.classifier(recipe, imported(state, recipe, tmp_path), seed=0).network
    assert loaded.get_buffer("blocks.0.attn.rel_pos.relative_position_index").any()
    assert torch.equal(loaded.get_parameter("head.weight"), state["head.weight"])


@pytest.mark.parametrize("outputs", [1, 2])
def test_weights_of_as_many_outputs_keep_their_last_layer(outputs):
    trained = comparator(RESNET, None, outputs=outputs, seed=5).state_dict()
    loaded = comparator(RESNET, trained, outputs=outputs, seed=0).state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in trained.items())


def test_weights_of_another_network_are_an_error_that_lists_them_and_are_not_imported(tmp_path):
    state = comparator(RESNET, None, outputs=1, seed=0).state_dict()
    del state["layer1.0.conv1.weight"]
    state["stray"] = torch.zeros(1)
    with pytest.raises(ValueError, match=r"missing layer1\.0\.conv1\.weight; unexpected stray"):
        imported(state, RESNET, tmp_path)
    assert not (tmp_path / "imported").exists()


def test_an_unknown_network_is_an_error():
    with pytest.raises(ValueError, match="timm has no model `resnet_of_nobody`"):
        comparator(TimmRecipe(name="resnet_of_nobody"), None, outputs=1, seed=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "hf-hub:somebody/model"}, "not downloaded"),
        ({"name": "local-dir:/elsewhere"}, "not downloaded"),
        ({"std": (0.0, 1.0, 1.0)}, "positive"),
        ({"image_px": 0}, "at least 1"),
    ],
)
def test_impossible_recipes_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        TimmRecipe(**values)
