"""FullGrad is complete for each building block of the networks on waveforms, and places what each block adds."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.parametrizations import weight_norm

from ecg_pipeline.explanation.attribution import full_gradient
from ecg_pipeline_tests.explanation.networks import OnWaveforms, perturb

LEADS, SAMPLES, CHANNELS = 3, 41, 6


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


class Calls(nn.Module):
    """A function as a module, with modules whose weights it uses."""

    def __init__(self, function, **modules):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.function(self, x)


def gated(self, x):
    """Squeeze and excitation."""
    gate = torch.sigmoid(self.after(F.silu(self.before(x.mean(-1)))))
    return torch.addcmul(x, x, gate[:, :, None])


def zeros_and_maximum(self, x):
    return F.max_pool1d(F.pad(x, (0, 1)), 2)


def positioned(self, x):
    return x + F.gelu(self.position(x)[..., : x.shape[-1]])


def attended(self, x):
    """Attention of frames to frames, the last ones masked."""
    q, k, v = (layer(x.mT).unflatten(2, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
    mask = (torch.arange(x.shape[-1]) < x.shape[-1] - 3)[None]
    return F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2).mT


def mean_of_what_is_not_zero(self, x):
    frames = F.relu(x)
    return (frames.sum(-1) / (frames != 0).sum(-1).clamp(min=1))[..., None]


def position(kernel):
    convolution = nn.Conv1d(CHANNELS, CHANNELS, kernel, padding=kernel // 2, groups=2)
    return weight_norm(convolution, dim=2)


BLOCKS = {
    "norm of each channel": lambda: nn.GroupNorm(CHANNELS, CHANNELS),
    "norm of two groups": lambda: nn.GroupNorm(2, CHANNELS),
    "norm without weights": lambda: nn.GroupNorm(3, CHANNELS, affine=False),
    "batch norm": lambda: nn.BatchNorm1d(CHANNELS),
    "layer norm of frames": lambda: Calls(lambda self, x: self.norm(x.mT).mT, norm=nn.LayerNorm(CHANNELS)),
    "convolution": lambda: nn.Conv1d(CHANNELS, CHANNELS, 4, stride=3, padding=1, groups=3),
    "gate": lambda: Calls(gated, before=nn.Linear(CHANNELS, 3), after=nn.Linear(3, CHANNELS)),
    "swish": nn.SiLU,
    "swish by hand": lambda: Calls(lambda self, x: x * x.sigmoid()),
    "exact gelu": nn.GELU,
    "gelu by tanh": lambda: nn.GELU("tanh"),
    "maximum with zeros": lambda: Calls(zeros_and_maximum),
    "more channels": lambda: Calls(lambda self, x: F.pad(x, (0, 0, 1, 2))),
    "even position": lambda: Calls(positioned, position=position(8)),
    "odd position": lambda: Calls(positioned, position=position(5)),
    "attention": lambda: Calls(attended, **{name: nn.Linear(CHANNELS, CHANNELS) for name in "qkv"}),
    "mean over time": lambda: Calls(lambda self, x: x.mean(-1, keepdim=True)),
    "mean of what is not zero": lambda: Calls(mean_of_what_is_not_zero),
    "dropout": nn.Dropout,
}


@pytest.mark.parametrize("name", BLOCKS)
def test_contributions_sum_to_the_margin(name):
    """The block stands between two convolutions with biases, so that what comes to it depends on the example."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv1d(LEADS, CHANNELS, 3, padding=1), nn.GELU(), BLOCKS[name]())
    channels = body(torch.zeros(1, LEADS, SAMPLES)).shape[1]
    network = nn.Sequential(body, nn.Conv1d(channels, 4, 1), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())
    made, windows = perturb(OnWaveforms(network, nn.Linear(4, 1))), noise(2, LEADS, SAMPLES)
    found = full_gradient(made, windows)
    with torch.no_grad():
        given = torch.from_numpy(np.concatenate([windows, np.zeros_like(windows[:1])])).double()
        log_odds = made.double()(given)[:, 0].numpy()
    margin = log_odds[:2] - log_odds[2]
    assert np.abs(margin).min() > 1e-5
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.elsewhere, margin, atol=1e-6)
    np.testing.assert_allclose(found.margin, margin, atol=1e-12)
    assert found.maps.shape == windows.shape


@pytest.mark.parametrize("kernel", [4, 5])
def test_the_bias_of_a_positional_convolution_lies_in_its_frame(kernel):
    """Planted: lead 0 has no weights, so that its row holds the bias of the one frame that is read, and nothing else.

    An even kernel gives a frame more, which must not shift the others.
    """
    torch.manual_seed(0)
    frames = nn.Conv1d(LEADS, CHANNELS, 4, stride=4, bias=False)
    with torch.no_grad():
        frames.weight[:, 0] = 0
    network = Calls(
        lambda self, x: F.gelu(self.position(self.frames(x))[..., 5]), frames=frames, position=position(kernel)
    )
    found = full_gradient(OnWaveforms(network, nn.Linear(CHANNELS, 1)).eval(), noise(2, LEADS, 40))
    of_bias = found.maps[:, 0]
    assert np.abs(of_bias[:, 20:24]).min() > 0
    assert np.abs(np.delete(of_bias, np.s_[20:24], axis=1)).max() == 0
    assert np.abs(found.elsewhere).max() < 1e-12


@pytest.mark.parametrize("kernel", [4, 5])
def test_frames_remain_places_after_a_positional_convolution(kernel):
    """Biases and norms of the frames behind it lie in their frames, too."""
    torch.manual_seed(0)
    network = Calls(
        lambda self, x: F.gelu(self.mix(positioned(self, self.frames(x)).mT))[:, 5],
        frames=nn.Conv1d(LEADS, CHANNELS, 4, stride=4, bias=False),
        position=position(kernel),
        mix=nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, CHANNELS)),
    )
    found = full_gradient(perturb(OnWaveforms(network, nn.Linear(CHANNELS, 1))), noise(2, LEADS, 40))
    assert np.abs(found.maps[..., 20:24]).min() > 0
    assert np.abs(found.maps[..., :12]).max() == 0 == np.abs(found.maps[..., 32:]).max()
    assert np.abs(found.elsewhere).max() < 1e-12


class LeadTwo(OnWaveforms):
    """Reads lead 2 alone, over its own deviation."""

    def normalise(self, x):
        return x[:, 2:] / (x[:, 2:].std(-1, keepdim=True) + 1e-8)


def test_a_network_of_one_lead_has_its_map_in_that_row():
    torch.manual_seed(0)
    made = LeadTwo(nn.Sequential(nn.Conv1d(1, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()), nn.Linear(4, 1))
    windows = noise(2, LEADS, SAMPLES)
    with pytest.raises(ValueError, match="`rows` must say which"):
        full_gradient(made, windows)
    made.rows = (2,)
    found = full_gradient(made, windows)
    assert found.maps.shape == windows.shape
    assert np.abs(found.maps[:, :2]).max() == 0
    assert np.abs(found.maps[:, 2]).min() > 0
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.elsewhere, found.margin, atol=1e-9)
