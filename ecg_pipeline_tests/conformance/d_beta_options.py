"""D-BETA's options under the names of its authors."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.models.d_beta.checkpoint import own_names
from ecg_pipeline.models.d_beta.network import DBetaModel
from ecg_pipeline.models.d_beta.recipes import DBetaPretraining, DBetaRecipe
from ecg_pipeline.models.t5_shape import shape_of
from ecg_pipeline.training.weights import load_exactly
from ecg_pipeline_tests.conformance.ecg_fm_options import conv_layers

NETWORK = {
    "conv_bias": "conv_bias",
    "encoder_layers": "depth",
    "encoder_embed_dim": "width",
    "encoder_ffn_embed_dim": "mlp_width",
    "encoder_attention_heads": "heads",
    "conv_pos": "position_kernel",
    "conv_pos_groups": "position_groups",
    "layer_norm_first": "pre_norm",
    "hidden_dim": "joint_width",
    "num_heads": "joint_heads",
    "num_top_layer": "joint_depth",
    "mem_decoder_hidden_dim": "decoder_width",
    "mem_decoder_num_layers": "decoder_depth",
    "mem_decoder_num_heads": "decoder_heads",
}
FIXED = {"in_d": len(LEADS), "normalize": False, "filter": False, "apply_mask": False, "extractor_mode": "default"}
"""Options that D-BETA does not vary here; those that neither table names have no effect on a forward pass without
dropout, or are the tokenizer's."""


def network_of(facts: Mapping[str, Any], state: Mapping[str, Tensor] | None = None) -> DBetaModel:
    """The network of a fixture in eval mode, as released: texts attend to their padding. state: official."""
    recipe = recipe_of(facts)
    model = DBetaModel(recipe, vocabulary=facts["config"]["vocab_size"])
    if state is not None:
        load_exactly(model, own_names(state, "fixture")[0])
    return model.eval()


def recipe_of(facts: Mapping[str, Any]) -> DBetaRecipe:
    """The recipe of a fixture; without a T5 configuration, the text encoder has its default size."""
    config = facts["config"]
    for name, value in FIXED.items():
        assert config.get(name, value) == value, f"D-BETA has no {name} = {config[name]}"
    given: dict[str, Any] = {ours: config[name] for name, ours in NETWORK.items()}
    widths, kernels, strides = zip(*conv_layers(config["conv_feature_layers"]), strict=True)
    given |= {"conv_widths": widths, "conv_kernels": kernels, "conv_strides": strides}
    given |= {"reconstruct_after": None if config["mem_layer"] == -1 else config["mem_layer"]}
    if "t5_config" in facts:
        shape = shape_of(facts["t5_config"])
        names = ("width", "depth", "heads", "head_width", "mlp_width", "activation")
        given |= {f"text_{name}": getattr(shape, name) for name in names}
    return DBetaRecipe(**given, text_padding="attended")


def pretraining_of(facts: Mapping[str, Any], *, standardised: bool = True) -> DBetaPretraining:
    """The pretraining of a fixture, without dropout."""
    return DBetaPretraining(
        batch=len(facts["lens"]),
        group=len(facts["lens"]),
        ecg_mask=facts["config"]["mem_prob"],
        lead_mask=facts["config"]["lead_masking"],
        standardised_target=standardised,
        dropout=0.0,
    )
