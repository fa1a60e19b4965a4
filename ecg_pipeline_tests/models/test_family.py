"""The interface of all families: images in, logits out, the same after saving and loading."""

import pytest
import torch

from ecg_pipeline.models.beit import masked_image_model
from ecg_pipeline.models.family import (
    build_classifier,
    classifier_config,
    initialisation,
    load_classifier,
)
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.models.weights import save_checkpoint

BEIT = BeitRecipe(image_px=32, width=32, depth=2, heads=2)
FAMILIES = [BEIT, TimmRecipe(name="test_resnet", mean=(0.1, 0.2, 0.3), image_px=32)]


@pytest.fixture
def images():
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("recipe", FAMILIES, ids=["beit", "timm"])
def test_logits_survive_saving(recipe, images, tmp_path):
    classifier = build_classifier(recipe, None, seed=3).eval()
    with torch.no_grad():
        classifier.get_parameter(next(n for n, _ in classifier.named_parameters() if n.endswith("bias"))).add_(0.5)
    logits = classifier(images)
    assert logits.shape == (3, 2)
    checkpoint = save_checkpoint(tmp_path, state=classifier.state_dict(), config=classifier_config(recipe, None))
    assert torch.equal(load_classifier(checkpoint)(images), logits)


def test_grey_is_repeated_and_normalised(images):
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 1.0, 2.0])
    made = normalise(images, mean=mean, std=std)
    assert torch.equal(made, normalise(images, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0)))
    assert made.shape == (3, 3, 32, 32)
    for channel in range(3):
        expected = (images / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(made[:, channel], expected)


def test_a_beits_images_are_normalised_to_plus_and_minus_one(images):
    classifier = build_classifier(BEIT, None, seed=0)
    made = normalise(images, mean=classifier.mean, std=classifier.std)
    torch.testing.assert_close(made[:, 0], 2 * (images / 255) - 1)


def test_a_classifier_starts_from_a_pretrained_checkpoint(tmp_path):
    pretrained = masked_image_model(BEIT, vocabulary=7, seed=0)
    start = save_checkpoint(tmp_path, state=pretrained.official_state(), config={"vocabulary": 7})
    state, own = build_classifier(BEIT, start, seed=1).network.state_dict(), start.state()
    assert torch.equal(state["blocks.1.mlp.fc1.weight"], own["blocks.1.mlp.fc1.weight"])
    assert torch.equal(state["fc_norm.weight"], torch.ones(32))


def test_a_family_refuses_the_other_familys_start(tmp_path):
    with pytest.raises(TypeError, match="import_pretraining"):
        build_classifier(BEIT, tmp_path / "weights.pth", seed=0)
    with pytest.raises(TypeError, match="weights file"):
        build_classifier(FAMILIES[1], save_checkpoint(tmp_path, state={}, config={}), seed=0)


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path):
    checkpoint = save_checkpoint(tmp_path, state={}, config={"model": {"family": "oracle"}})
    with pytest.raises(ValueError, match="no family `oracle`; there are beit, timm"):
        load_classifier(checkpoint)


def test_a_checkpoint_that_names_a_network_elsewhere_fetches_nothing(tmp_path):
    checkpoint = save_checkpoint(
        tmp_path, state={}, config={"model": {"family": "timm", "name": "hf-hub:somebody/model"}}
    )
    with pytest.raises(ValueError, match="not downloaded"):
        load_classifier(checkpoint)


def test_where_weights_came_from_is_said(tmp_path):
    assert initialisation(None) == "random initialisation"
    assert initialisation(tmp_path / "resnet.safetensors") == "published weights resnet.safetensors"
    assert initialisation(save_checkpoint(tmp_path, state={}, config={})) == "masked image modelling"
