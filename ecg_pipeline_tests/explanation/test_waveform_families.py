"""FullGrad is complete for ECG-FM and ECGFounder whatever their recipes; ECG-FM's curve is that of its last layer."""

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.explanation.attention import attention_weights
from ecg_pipeline.explanation.attention_curve import attention_curve
from ecg_pipeline.explanation.attribution import full_gradient
from ecg_pipeline.explanation.second_views import last_layer_curve
from ecg_pipeline.models.ecg_fm.recipes import EcgFmRecipe
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline.models.load import build_classifier
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline_tests.explanation.networks import OnWaveforms, perturb

ECG_FM = {
    "conv_widths": (8, 8, 8, 8),
    "width": 16,
    "depth": 2,
    "heads": 2,
    "mlp_width": 24,
    "position_kernel": 8,
    "position_groups": 4,
}
FOUNDER = {"base_filters": 8, "widths": (8, 16, 24), "blocks": (2, 1, 2), "groups_width": 4}

RECIPES = {
    "ecg_fm": EcgFmRecipe(**ECG_FM),
    "ecg_fm, pre-norm": EcgFmRecipe(**ECG_FM, pre_norm=True),
    "ecg_fm, biases": EcgFmRecipe(**ECG_FM, conv_bias=True),
    "ecg_fm, odd position": EcgFmRecipe(**{**ECG_FM, "position_kernel": 5}),
    "ecg_fm, other kernels": EcgFmRecipe(**{**ECG_FM, "conv_kernels": (5, 3, 2, 2)}),
    "ecg_fm, no projection": EcgFmRecipe(**{**ECG_FM, "width": 8, "position_groups": 2}),
    "ecgfounder": EcgFounderRecipe(**FOUNDER),
    "ecgfounder, batch norm": EcgFounderRecipe(**FOUNDER, use_bn=True, dropout=0.5),
    "ecgfounder, odd kernel": EcgFounderRecipe(**FOUNDER, kernel=5),
    "ecgfounder, thirds": EcgFounderRecipe(**FOUNDER, stride=3),
    "ecgfounder, lead I": EcgFounderRecipe(**FOUNDER, leads=1),
}


def noise(samples, *, seed=0):
    x = np.random.default_rng(seed).normal(0, 1, (3, 12, samples)).astype(np.float32)
    x[2] = 0
    x[1, :, -samples // 4 :] = 0  # a short record
    return x


@pytest.mark.parametrize("samples", [400, 313])
@pytest.mark.parametrize("name", RECIPES)
def test_contributions_sum_to_the_margin(name, samples):
    made, windows = perturb(build_classifier(RECIPES[name], None, seed=0)), noise(samples)
    found = full_gradient(made, windows)
    assert found.maps.shape == windows.shape
    with torch.no_grad():
        inputs = made.normalise(torch.from_numpy(windows)).double()
        log_odds = made.double().classify(made.encode(inputs))[:, 0].numpy()
    margin = log_odds - log_odds[2]
    assert np.abs(margin[:2]).min() > 1e-4
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.elsewhere, margin, atol=1e-6)
    assert np.abs(found.elsewhere).max() < 1e-9, "every contribution has a place"
    assert np.abs(found.maps[2]).max() < 1e-12


def test_a_network_of_lead_one_has_its_map_there():
    found = full_gradient(perturb(build_classifier(RECIPES["ecgfounder, lead I"], None, seed=0)), noise(400))
    others = [lead for lead, name in enumerate(LEADS) if name != "I"]
    assert np.abs(found.maps[:, others]).max() == 0
    assert np.abs(found.maps[0, LEADS.index("I")]).min() > 0


@pytest.mark.parametrize("name", ["ecg_fm", "ecg_fm, pre-norm"])
def test_the_curve_is_that_of_the_last_layer(name):
    made, windows = perturb(build_classifier(RECIPES[name], None, seed=0)), noise(400)
    with torch.no_grad():
        weights = made.encoder.attention(torch.from_numpy(windows))
    curves = last_layer_curve(made, windows)
    assert curves.shape == (3, 399)
    np.testing.assert_allclose(curves[:2], attention_curve(weights[-1].numpy(), 400)[:2], atol=1e-4)
    assert curves[:2].min(1).tolist() == [0, 0]
    assert curves[:2].max(1).tolist() == [1, 1]


def test_a_network_without_attention_has_no_curve():
    with pytest.raises(ValueError, match="has no attention, so no curve"):
        last_layer_curve(build_classifier(SmallCnnRecipe(), None, seed=0), noise(400))


@pytest.mark.parametrize("kind", ["no mask", "bool", "float", "causal", "scaled"])
def test_recorded_weights_are_those_that_attention_is_computed_with(kind):
    """The values are one-hot, so that fused attention gives its weights."""
    torch.manual_seed(0)
    allowed = torch.tensor([True, True, False, True, True])[None]
    options = {
        "no mask": {},
        "bool": {"attn_mask": allowed},
        "float": {"attn_mask": torch.randn(5, 5)},
        "causal": {"is_causal": True},
        "scaled": {"scale": 0.3},
    }[kind]

    class Attends(torch.nn.Module):
        def forward(self, x):
            q, k = x[:, None, :5], x[:, None, 5:]
            values = torch.eye(5).expand(len(x), 1, 5, 5)
            self.seen = scaled_dot_product_attention(q, k, values, **options)
            return self.seen.flatten(1)

    network = Attends()
    weights, _ = attention_weights(OnWaveforms(network, torch.nn.Linear(25, 1)), noise(8)[:, :10])
    torch.testing.assert_close(weights[0], network.seen)
