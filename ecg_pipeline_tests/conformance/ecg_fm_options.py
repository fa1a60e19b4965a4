"""ECG-FM's options under the names of its authors, and comparisons within a fixture's own tolerances."""

import ast
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe, SpanMaskRecipe
from ecg_pipeline_tests.conformance.fixtures import Fixture

NETWORK = {
    "in_d": "leads",
    "conv_bias": "conv_bias",
    "encoder_layers": "depth",
    "encoder_embed_dim": "width",
    "encoder_ffn_embed_dim": "mlp_width",
    "encoder_attention_heads": "heads",
    "conv_pos": "position_kernel",
    "conv_pos_groups": "position_groups",
    "layer_norm_first": "pre_norm",
    "latent_vars": "codes",
    "latent_groups": "codebooks",
    "latent_dim": "code_width",
    "final_dim": "contrast_width",
}
PRETRAINING = {
    "num_negatives": "negatives",
    "logit_temp": "temperature",
    "feature_grad_mult": "feature_grad_mult",
    "dropout": "dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "input_dropout",
    "dropout_features": "feature_dropout",
}
FIXED = {
    "extractor_mode": (None, "default"),
    "apply_mask": (True, False),
    "quantize_targets": (True,),
    "negatives_from_everywhere": (False,),
    "cross_sample_negatives": (0,),
    "codebook_negatives": (0,),
    "encoder_layerdrop": (0.0,),
    "activation_fn": ("gelu",),
    "saliency": (True, False),
}
"""Options that ECG-FM does not vary, and their values in it, which are given with every network here."""
MASK = ("mask_prob", "mask_length")


def network_of(config: Mapping[str, Any]) -> EcgFmRecipe:
    """The network of a fixture; what it leaves out is ECG-FM's base size."""
    known = {*NETWORK, *PRETRAINING, *FIXED, *MASK, "conv_feature_layers"}
    assert not (unknown := config.keys() - known), f"no option {', '.join(sorted(unknown))}"
    for name, values in FIXED.items():
        assert config.get(name, values[0]) in values, f"ECG-FM has no {name} = {config[name]}"
    given: dict[str, Any] = {ours: config[name] for name, ours in NETWORK.items() if config.get(name) is not None}
    given["code_width"] = given.get("code_width") or None
    if "conv_feature_layers" in config:
        widths, kernels, strides = zip(*conv_layers(config["conv_feature_layers"]), strict=True)
        given |= {"conv_widths": widths, "conv_kernels": kernels, "conv_strides": strides}
    return EcgFmRecipe(**given)


def pretraining_of(config: Mapping[str, Any]) -> EcgFmPretraining:
    """The pretraining of a fixture; what it leaves out is ECG-FM's."""
    given: dict[str, Any] = {ours: config[name] for name, ours in PRETRAINING.items() if name in config}
    default = SpanMaskRecipe()
    mask = SpanMaskRecipe(config.get("mask_prob", default.share), config.get("mask_length", default.length))
    return EcgFmPretraining(**given, mask=mask)


def conv_layers(text: str) -> list[tuple[int, int, int]]:
    """The layers of an expression such as "[(256, 2, 2)] * 4"."""

    def value(node: ast.expr) -> Any:
        if isinstance(node, ast.BinOp):
            left, right = value(node.left), value(node.right)
            return left * right if isinstance(node.op, ast.Mult) else left + right
        return ast.literal_eval(node)

    return value(ast.parse(text, mode="eval").body)


def within(found: Tensor, expected: Tensor | float, fixture: Fixture, what: str) -> None:
    """AssertionError unless values agree within the fixture's `atol` and `rtol`; infinite ones exactly."""
    target = torch.as_tensor(expected, dtype=found.dtype)
    torch.testing.assert_close(
        found,
        target,
        atol=fixture.facts["atol"],
        rtol=fixture.facts.get("rtol", 0.0),
        msg=lambda text: f"{what}: {text}",
    )


def gradients_within(found: Mapping[str, Tensor | None], fixture: Fixture) -> None:
    """All gradients of a fixture. Those that are 0 but for rounding must be small: of the keys' biases, which move all
    logits alike, and of the bias that a norm over time follows."""
    expected = fixture.named("grad.")
    assert expected, "the fixture has no gradients"
    for name, gradient in expected.items():
        own = found[name]
        assert own is not None, f"{name} has no gradient"
        if name.endswith(("k_proj.bias", "feature_extractor.conv_layers.0.0.bias")):
            assert float(own.abs().max()) < 1e-4, f"gradient of {name}"
        else:
            within(own, gradient, fixture, f"gradient of {name}")
