"""FullGrad's contributions sum to the margin in every family, and lie where the model responds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ecg_pipeline.explanation.attribution import full_gradient
from ecg_pipeline.explanation.surfaces import Sheet, Traces, share
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.small_cnn.network import small_cnn
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline_tests.explanation.networks import OneHalf, OnImages, OnWaveforms, of_size, perturb


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, shape).astype(np.float32)


def blank_like(classifier, examples):
    return np.full_like(examples[:1], classifier.blank)


# Images


def test_shares_sum_to_the_margin(classifier, images):
    images = of_size(classifier, images)
    found = full_gradient(classifier, images)
    with torch.no_grad():
        log_odds = classifier(torch.from_numpy(np.concatenate([images, blank_like(classifier, images)])))[:, 0].numpy()
    np.testing.assert_allclose(found.margin, log_odds[:-1] - log_odds[-1], atol=1e-3 * np.abs(log_odds).max())
    assert np.abs(found.margin).min() > 1e-4
    assert (found.error <= 1e-12 * np.abs(found.maps).sum((1, 2))).all()
    assert found.maps.shape == images.shape


def test_a_relu_network_gets_the_shares_of_the_paper(images):
    """Srinivas and Fleuret's equation 2, written out: input x gradient, and bias x gradient of each feature map."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(), nn.Flatten()
    )
    made = OnImages(network, nn.Linear(4 * 24 * 24, 1))

    def written_out(some):
        x = (torch.from_numpy(some)[:, None].double() / 255 - 0.5) / 0.5
        features = [x.expand(-1, 3, -1, -1).clone().requires_grad_()]
        for layer in (*made.network.double(), made.head.double()):
            features.append(layer(features[-1]))
        gradients = torch.autograd.grad(features[-1].sum(), features[:4])
        maps = (features[0] * gradients[0]).sum(1)
        for convolution, gradient in ((network[0], gradients[1]), (network[2], gradients[3])):
            maps = maps + (convolution.bias[:, None, None] * gradient).sum(1)
        return maps.detach().numpy()

    small = images[:, 20:44, :24].copy()
    found = full_gradient(made.float(), small)
    np.testing.assert_allclose(found.maps, written_out(small) - written_out(np.full_like(small[:1], 255)), atol=1e-8)
    assert np.abs(found.elsewhere).max() < 1e-12


def test_an_images_map_does_not_depend_on_its_batch(classifier, images):
    images = of_size(classifier, images)
    together, alone = full_gradient(classifier, images), full_gradient(classifier, images[1:])
    np.testing.assert_allclose(alone.maps[0], together.maps[1], atol=1e-9 * np.abs(together.maps).max())


def test_the_blank_image_has_no_shares(classifier, images):
    found = full_gradient(classifier, blank_like(classifier, of_size(classifier, images)))
    assert np.abs(found.maps).max() == 0


def test_explaining_leaves_the_classifier_as_it_was(classifier, images):
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    full_gradient(classifier, of_size(classifier, images))
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in classifier.parameters())


class Squared(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))[:, :1].square()


class WithoutPlace(nn.Module):
    """Takes a constant away by an operation that is not known to hold a bias."""

    def forward(self, x):
        return torch.where(x > 0, x, 1.0).mean((2, 3))[:, :1]


@pytest.mark.parametrize(("network", "named"), [(Squared(), "mean, square"), (WithoutPlace(), "mean, where")])
def test_a_network_with_an_unknown_operation_is_refused_and_the_operation_is_named(network, named, images):
    with pytest.raises(ArithmeticError, match=f"one of the operations {named}"):
        full_gradient(OnImages(network, nn.Linear(1, 1)), images)


def test_what_is_neither_an_image_nor_a_waveform_is_refused():
    with pytest.raises(ValueError, match="not on"):
        full_gradient(OnWaveforms(nn.Identity(), nn.Linear(3, 1)), noise(2, 3))


@pytest.mark.parametrize("lead", ["II", "V6"])
def test_a_model_that_looks_at_one_lead_has_its_shares_there(lead, images):
    """Planted: a network that sees the rows of one lead alone."""
    mask = Sheet(SheetRecipe(), seconds=5).lead_masks()[lead]
    torch.manual_seed(0)

    class OneLead(nn.Module):
        def __init__(self):
            super().__init__()
            self.look = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Hardswish())
            self.register_buffer("seen", torch.from_numpy(mask))

        def forward(self, x):
            return (self.look(x) * self.seen).flatten(1)

    found = full_gradient(OnImages(OneLead(), nn.Linear(4 * mask.size, 1)), images)
    assert found.error.max() < 1e-10
    for attribution in found.maps:
        assert share(np.abs(attribution), mask=mask) > 1 - 1e-12


# Waveforms


@settings(max_examples=30, deadline=None)
@given(
    leads=st.integers(1, 12),
    samples=st.integers(16, 300),
    widths=st.lists(st.integers(1, 9), min_size=1, max_size=3),
    kernel=st.sampled_from([1, 3, 7]),
    stem_kernel=st.sampled_from([1, 5, 15]),
    seed=st.integers(0, 2**32 - 1),
)
def test_shares_of_a_small_cnn_sum_to_the_margin(leads, samples, widths, kernel, stem_kernel, seed):
    recipe = SmallCnnRecipe(leads=leads, widths=tuple(widths), kernel=kernel, stem_kernel=stem_kernel)
    made = perturb(small_cnn(recipe, seed=seed))
    windows = noise(3, leads, samples, seed=seed)
    windows[2] = 0
    found = full_gradient(made, windows)
    assert found.maps.shape == windows.shape
    with torch.no_grad():
        log_odds = made(torch.from_numpy(windows))[:, 0].numpy()
    np.testing.assert_allclose(found.margin, log_odds - log_odds[2], atol=1e-4 * np.abs(log_odds).max())
    assert (found.error <= 1e-12 * (np.abs(found.maps).sum((1, 2)) + np.abs(found.elsewhere))).all()
    assert np.abs(found.maps[2]).max() == 0


def test_a_default_small_cnn_has_no_shares_elsewhere_and_explains_itself_exactly():
    made, windows = perturb(small_cnn(SmallCnnRecipe(), seed=0)), noise(2, 12, 5000)
    found = full_gradient(made, windows)
    assert (found.error < 1e-9 * np.abs(found.margin)).all()
    assert np.abs(found.elsewhere).max() < 1e-12


def test_explaining_is_not_random_even_where_training_is():
    made, windows = small_cnn(SmallCnnRecipe(), seed=0).train(), noise(2, 12, 500)
    first, again = full_gradient(made, windows), full_gradient(made, windows)
    assert np.array_equal(first.maps, again.maps)


def test_a_relu_network_on_waveforms_gets_the_shares_of_the_paper():
    """Written out: input x gradient by lead and time, biases at their time, evenly over the leads."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4), nn.ReLU(), nn.Conv1d(4, 5, 2, stride=2), nn.ReLU()
    )
    made = perturb(OnWaveforms(network.append(nn.Flatten()), nn.Linear(5 * 20, 1)))
    windows = noise(2, 3, 40)

    def written_out(some):
        first, norm, _, second = made.network.double()[:4]
        features = [torch.from_numpy(some).double().requires_grad_()]
        for layer in (*made.network, made.head.double()):
            features.append(layer(features[-1]))
        of_input, of_first, of_norm, _, of_second = torch.autograd.grad(features[-1].sum(), features[:5])
        shift = norm.bias - norm.weight * norm.running_mean / (norm.running_var + norm.eps).sqrt()
        by_time = sum((bias[:, None] * to).sum(1) for bias, to in ((first.bias, of_first), (shift, of_norm)))
        by_time = by_time + (second.bias[:, None] * of_second).sum(1).repeat_interleave(2, dim=1) / 2
        return (features[0] * of_input + by_time[:, None] / 3).detach().numpy()

    found = full_gradient(made.float(), windows)
    np.testing.assert_allclose(found.maps, written_out(windows) - written_out(np.zeros_like(windows[:1])), atol=1e-7)
    assert np.abs(found.elsewhere).max() < 1e-12


@pytest.mark.parametrize("seen", ["aVR", "V6"])
def test_a_waveform_model_without_biases_that_reads_one_lead_has_its_shares_there(seen):
    """Planted: all weights of the other leads are 0."""
    torch.manual_seed(0)
    surface = Traces(("I", "II", "aVR", "V6"), samples=200, sampling_hz=100)
    first = nn.Conv1d(4, 6, 5, padding=2, bias=False)
    with torch.no_grad():
        first.weight[:, [lead != seen for lead in surface.leads]] = 0
    network = nn.Sequential(first, nn.ReLU(), nn.Conv1d(6, 6, 5, bias=False), nn.ReLU(), nn.Flatten())
    found = full_gradient(OnWaveforms(network, nn.Linear(6 * 196, 1)), noise(2, 4, 200))
    for attribution in found.maps:
        assert share(np.abs(attribution), mask=surface.lead_masks()[seen]) == 1


def test_a_waveform_model_that_reads_the_first_half_has_its_shares_there():
    """Planted: biases included, only the first half of the time reaches the head."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv1d(4, 6, 5, padding=2), nn.BatchNorm1d(6), nn.ReLU())
    found = full_gradient(perturb(OnWaveforms(OneHalf(network), nn.Linear(6, 1))), noise(2, 4, 200))
    assert found.error.max() < 1e-12
    # The kernel reaches two samples across the border.
    assert np.abs(found.maps[..., 102:]).max() == 0
    assert np.abs(found.maps[..., :100]).min() > 0


def test_tokens_of_a_waveform_lie_where_its_patches_are():
    """A class token has no place; position embeddings and biases of tokens lie in their patch."""
    torch.manual_seed(0)

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv1d(2, 8, 10, stride=10)
            self.first = nn.Parameter(torch.randn(1, 1, 8))
            self.positions = nn.Parameter(torch.randn(1, 6, 8))
            self.mix = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.GELU())

        def forward(self, x):
            tokens = self.patches(x).mT
            tokens = torch.cat([self.first.expand(len(tokens), -1, -1), tokens], dim=1) + self.positions
            return self.mix(tokens)[:, (0, 2)].flatten(1)

    found = full_gradient(OnWaveforms(Tokens(), nn.Linear(16, 1)), noise(2, 2, 50))
    assert found.error.max() < 1e-12
    # The class token and the second patch are all that is read; what a constant token adds is that of the blank, too.
    assert np.abs(found.maps[..., :10]).max() == 0 == np.abs(found.maps[..., 20:]).max()
    assert np.abs(found.maps[..., 10:20]).min() > 0
    assert np.abs(found.elsewhere).max() < 1e-12
