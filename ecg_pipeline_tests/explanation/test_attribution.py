"""FullGrad's contributions sum to the margin in every family, and lie where the model responds."""

import numpy as np
import pytest
import torch
from torch import nn

from ecg_pipeline.explanation.attribution import combine_attention, full_gradient, has_attention, rollout
from ecg_pipeline.explanation.saliency import lead_masks, share
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.family import Classifier, build_classifier
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe

FAMILIES = {
    "resnet": TimmRecipe(name="test_resnet"),
    "mobilenet": TimmRecipe(name="mobilenetv3_small_050"),
    "efficientnet": TimmRecipe(name="test_efficientnet"),
    "convnext": TimmRecipe(name="test_convnext"),
    "vit": TimmRecipe(name="test_vit"),
    "beit": BeitRecipe(width=32, depth=2, heads=2),
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    images = np.full((2, 224, 224), 255, np.uint8)
    images[:, 30:200:20] = rng.integers(0, 255, (2, 9, 224))
    return images


@pytest.fixture(scope="module", params=FAMILIES)
def classifier(request):
    """A network in which every weight, bias and running mean is other than at the start."""
    made = build_classifier(FAMILIES[request.param], None, seed=0).eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in made.state_dict().items():
        if tensor.is_floating_point() and not name.endswith("running_var"):
            tensor += torch.randn(tensor.shape, generator=generator) * (0.02 if tensor.ndim > 1 else 0.1)
    return made


def of_size(classifier, images):
    size = getattr(getattr(classifier.network, "patch_embed", None), "img_size", None)
    return images[:, : size[0], : size[1]] if size else images


def test_shares_sum_to_the_margin(classifier, images):
    images = of_size(classifier, images).copy()
    found = full_gradient(classifier, images)
    with torch.no_grad():
        logits = classifier(torch.from_numpy(np.concatenate([images, np.full_like(images[:1], 255)])))
    margin = (logits[:, 1] - logits[:, 0]).numpy()
    np.testing.assert_allclose(found.margin, margin[:-1] - margin[-1], atol=1e-3 * np.abs(margin).max())
    assert np.abs(margin[:-1] - margin[-1]).min() > 1e-4
    assert (found.error <= 1e-12 * np.abs(found.maps).sum((1, 2))).all()
    assert found.maps.shape == images.shape


def test_a_relu_network_gets_the_shares_of_the_paper(images):
    """Srinivas and Fleuret's equation 2, written out: input x gradient, and bias x gradient of each feature map."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten()
    ).append(nn.Linear(4 * 24 * 24, 2))

    def written_out(some):
        x = (torch.from_numpy(some)[:, None].double() / 255 - 0.5) / 0.5
        features = [x.expand(-1, 3, -1, -1).clone().requires_grad_()]
        for layer in network.double():
            features.append(layer(features[-1]))
        gradients = torch.autograd.grad((features[-1] @ torch.tensor([-1.0, 1.0]).double()).sum(), features[:4])
        maps = (features[0] * gradients[0]).sum(1)
        for convolution, gradient in ((network[0], gradients[1]), (network[2], gradients[3])):
            maps = maps + (convolution.bias[:, None, None] * gradient).sum(1)
        return maps.detach().numpy()

    small = images[:, 20:44, :24].copy()
    found = full_gradient(Classifier(network.float(), mean=(0.5,) * 3, std=(0.5,) * 3), small)
    expected = written_out(small) - written_out(np.full_like(small[:1], 255))
    np.testing.assert_allclose(found.maps, expected, atol=1e-8)
    assert np.abs(found.elsewhere).max() < 1e-12


def test_an_images_map_does_not_depend_on_its_batch(classifier, images):
    images = of_size(classifier, images).copy()
    together, alone = full_gradient(classifier, images), full_gradient(classifier, images[1:])
    np.testing.assert_allclose(alone.maps[0], together.maps[1], atol=1e-9 * np.abs(together.maps).max())


def test_the_blank_image_has_no_shares(classifier, images):
    found = full_gradient(classifier, np.full_like(of_size(classifier, images)[:1], 255))
    assert np.abs(found.maps).max() == 0


def test_an_unknown_operation_shows_as_an_error(images):
    class Squared(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))[:, :2].square() * torch.tensor([1.0, 2.0])

    assert full_gradient(Classifier(Squared(), mean=(0.5,) * 3, std=(0.5,) * 3), images).error.min() > 1e-3


@pytest.mark.parametrize("lead", ["II", "V6"])
def test_a_model_that_looks_at_one_lead_has_its_shares_there(lead, images):
    """Planted: a network that sees the rows of one lead alone."""
    mask = lead_masks(SheetRecipe())[lead]
    torch.manual_seed(0)

    class OneLead(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Hardswish(), nn.Flatten())
            self.register_buffer("seen", torch.from_numpy(mask))
            self.head = nn.Linear(4 * mask.size, 2)

        def forward(self, x):
            return self.head((self.look[:3](x) * self.seen).flatten(1))

    found = full_gradient(Classifier(OneLead().eval(), mean=(0.5,) * 3, std=(0.5,) * 3), images)
    assert found.error.max() < 1e-10
    for attribution in found.maps:
        assert share(np.abs(attribution), mask=mask) > 1 - 1e-12


def test_rollout_shares_out_the_whole_of_a_token(classifier, images):
    images = of_size(classifier, images).copy()
    if not has_attention(classifier):
        with pytest.raises(ValueError, match="no attention"):
            rollout(classifier, images)
        return
    maps = rollout(classifier, images)
    assert maps.shape == images.shape
    assert maps.min() > 0
    assert (maps.sum((1, 2)) <= 1 + 1e-9).all()
    assert (maps.sum((1, 2)) > 0.5).all()


def test_rolled_out_rows_sum_to_one():
    weights = [torch.rand(2, 3, 5, 5).softmax(-1) for _ in range(4)]
    rolled = combine_attention(weights)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (rolled > 0).all()
    nobody = combine_attention([torch.eye(5).expand(2, 3, 5, 5)] * 4)
    torch.testing.assert_close(nobody[0], torch.eye(5, dtype=torch.float64))


def test_rollout_is_the_same_with_fused_attention_and_without(images):
    made = build_classifier(FAMILIES["vit"], None, seed=0)
    fused = rollout(made, images)
    for block in made.network.blocks:
        block.attn.fused_attn = False
    np.testing.assert_allclose(rollout(made, images), fused, rtol=1e-5)
