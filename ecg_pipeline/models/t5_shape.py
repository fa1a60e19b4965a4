"""Sizes of a T5 encoder, without the encoder: recipes are read where torch is not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["gated-gelu", "relu"]


@dataclass(frozen=True, kw_only=True)
class T5Shape:
    """Sizes of an encoder; the defaults are Flan-T5's base size.

    head_width: of each attention head; together they may be wider than `width`. mlp_width: hidden width of a layer's
    MLP. activation: of the MLP, "gated-gelu" in Flan-T5 and T5 1.1, "relu" in the first T5. buckets, max_distance: of
    the relative positions. eps: of the norms.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    head_width: int = 64
    mlp_width: int = 2048
    activation: Activation = "gated-gelu"
    buckets: int = 32
    max_distance: int = 128
    eps: float = 1e-6


def shape_of(config: Mapping[str, Any]) -> T5Shape:
    """The sizes in a T5 folder's `config.json`. An encoder that is not built so is a ValueError."""
    activation = config.get("feed_forward_proj", "relu")
    if activation not in ("gated-gelu", "relu"):
        raise ValueError(f"a T5 encoder with `feed_forward_proj: {activation}` is not known, only gated-gelu and relu")
    return T5Shape(
        width=config["d_model"],
        depth=config["num_layers"],
        heads=config["num_heads"],
        head_width=config["d_kv"],
        mlp_width=config["d_ff"],
        activation=activation,
        buckets=config.get("relative_attention_num_buckets", 32),
        max_distance=config.get("relative_attention_max_distance", 128),
        eps=config.get("layer_norm_epsilon", 1e-6),
    )
