"""One interface: sheets in, logits out, the same after saving and loading, whatever the family."""

import pytest
import torch

from ecg_pipeline.models.beit import masked_image_model
from ecg_pipeline.models.family import (
    build_classifier,
    classifier_config,
    initialisation,
    load_classifier,
    normalised,
)
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.models.weights import save_checkpoint

BEIT = BeitRecipe(image_px=32, width=32, depth=2, heads=2)
FAMILIES = [BEIT, TimmRecipe(name="test_resnet", mean=(0.1, 0.2, 0.3), image_px=32)]


@pytest.fixture
def sheets():
    return torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("recipe", FAMILIES, ids=["beit", "timm"])
def test_logits_survive_saving(recipe, sheets, tmp_path):
    classifier = build_classifier(recipe, None, seed=3).eval()
    with torch.no_grad():
        classifier.get_parameter(next(n for n, _ in classifier.named_parameters() if n.endswith("bias"))).add_(0.5)
    logits = classifier(sheets)
    assert logits.shape == (3, 2)
    checkpoint = save_checkpoint(tmp_path, classifier.state_dict(), classifier_config(recipe, None))
    assert torch.equal(load_classifier(checkpoint)(sheets), logits)


def test_grey_is_repeated_and_normalised(sheets):
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    made = normalised(sheets, mean, std)
    assert made.shape == (3, 3, 32, 32)
    for channel in range(3):
        expected = (sheets / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(made[:, channel], expected)


def test_the_normalisation_of_a_beit_is_its_patch_view(sheets):
    classifier = build_classifier(BEIT, None, seed=0)
    made = normalised(sheets, classifier.mean, classifier.std)
    torch.testing.assert_close(made[:, 0], 2 * (sheets / 255) - 1)


def test_a_classifier_starts_from_a_pretrained_checkpoint(tmp_path):
    pretrained = masked_image_model(BEIT, 7, seed=0)
    start = save_checkpoint(tmp_path, pretrained.official_state(), {"vocabulary": 7})
    state, own = build_classifier(BEIT, start, seed=1).network.state_dict(), start.state()
    assert torch.equal(state["blocks.1.mlp.fc1.weight"], own["blocks.1.mlp.fc1.weight"])
    assert torch.equal(state["fc_norm.weight"], torch.ones(32))


def test_a_family_refuses_the_other_familys_start(tmp_path):
    with pytest.raises(TypeError, match="import_pretraining"):
        build_classifier(BEIT, tmp_path / "weights.pth", seed=0)
    with pytest.raises(TypeError, match="weights file"):
        build_classifier(FAMILIES[1], save_checkpoint(tmp_path, {}, {}), seed=0)


def test_a_checkpoint_of_an_unknown_family_is_refused(tmp_path):
    checkpoint = save_checkpoint(tmp_path, {}, {"model": {"family": "oracle"}})
    with pytest.raises(ValueError, match="no family `oracle`; there are beit, timm"):
        load_classifier(checkpoint)


def test_a_checkpoint_that_names_a_network_elsewhere_fetches_nothing(tmp_path):
    checkpoint = save_checkpoint(tmp_path, {}, {"model": {"family": "timm", "name": "hf-hub:somebody/model"}})
    with pytest.raises(ValueError, match="not fetched"):
        load_classifier(checkpoint)


def test_where_weights_came_from_is_said(tmp_path):
    assert initialisation(None) == "random initialisation"
    assert initialisation(tmp_path / "resnet.safetensors") == "published weights resnet.safetensors"
    assert initialisation(save_checkpoint(tmp_path, {}, {})) == "masked image modelling"
