"""The encoder of T5 (Raffel et al. 2020), which reads texts as token ids.

Modules bear the names of the `transformers` package, so that a state needs no renaming.
"""

from collections.abc import Mapping
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, relu, scaled_dot_product_attention

from ecg_pipeline.models.packing import Packing, packed, packing, padded
from ecg_pipeline.models.t5_shape import T5Shape, shape_of
from ecg_pipeline.storage.files import read_json
from ecg_pipeline.training.weights import load_exactly, read_weights

EMBEDDING, EMBEDDING_AGAIN = "shared.weight", "encoder.embed_tokens.weight"
"""Names of the table of token vectors; files have either or both."""

OTHERS = ("decoder.", "lm_head.")
"""Beginnings of the names of what is no part of the encoder."""

BATCH = 64
"""Texts that go through the encoder at a time to get their mean vectors."""


class SelfAttention(nn.Module):
    """Attention of tokens to tokens, not scaled: (B, L, D) or, packed, (P, D). The first layer's has the positions."""

    def __init__(self, shape: T5Shape, *, rate: float, has_positions: bool):
        super().__init__()
        inner = shape.heads * shape.head_width
        self.heads, self.rate = shape.heads, rate
        self.q = _linear(shape.width, inner, std=(shape.width * shape.head_width) ** -0.5)
        self.k = _linear(shape.width, inner, std=shape.width**-0.5)
        self.v = _linear(shape.width, inner, std=shape.width**-0.5)
        self.o = _linear(inner, shape.width, std=inner**-0.5)
        if has_positions:
            self.relative_attention_bias = nn.Embedding(shape.buckets, shape.heads)
            nn.init.normal_(self.relative_attention_bias.weight, std=shape.width**-0.5)

    def forward(self, x: Tensor, bias: Tensor, by: Packing | None) -> Tensor:
        """bias: (1 or B, heads, L, L), added to the logits. by: how x is packed."""
        together = padded(torch.cat([self.q(x), self.k(x), self.v(x)], dim=-1), by)
        q, k, v = together.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), dropout_p=rate, scale=1.0)
        return self.o(packed(y.transpose(1, 2).flatten(2), by))


class FeedForward(nn.Module):
    """The MLP of a layer: (..., D) -> (..., D)."""

    wi: nn.Linear
    wi_0: nn.Linear
    wi_1: nn.Linear

    def __init__(self, shape: T5Shape, *, rate: float):
        super().__init__()
        self.rate, self.is_gated = rate, shape.activation == "gated-gelu"
        for name in ("wi_0", "wi_1") if self.is_gated else ("wi",):
            setattr(self, name, _linear(shape.width, shape.mlp_width, std=shape.width**-0.5))
        self.wo = _linear(shape.mlp_width, shape.width, std=shape.mlp_width**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """The gate's GELU is the approximation by tanh."""
        inner = gelu(self.wi_0(x), approximate="tanh") * self.wi_1(x) if self.is_gated else relu(self.wi(x))
        return self.wo(dropout(inner, self.rate, self.training))


class Sublayer(nn.Module):
    """A residual branch that begins with a norm. name: of the branch's module."""

    def __init__(self, name: str, branch: nn.Module, shape: T5Shape, *, rate: float):
        super().__init__()
        self.name, self.rate = name, rate
        self.add_module(name, branch)
        self.layer_norm = nn.RMSNorm(shape.width, eps=shape.eps)

    def forward(self, x: Tensor, *others: Any) -> Tensor:
        """(..., D) -> (..., D). others: what the branch needs beside x."""
        branch = getattr(self, self.name)
        return x + dropout(branch(self.layer_norm(x), *others), self.rate, self.training)


class Layer(nn.Module):
    """Attention, then the MLP."""

    def __init__(self, shape: T5Shape, *, rate: float, has_positions: bool):
        super().__init__()
        attention = SelfAttention(shape, rate=rate, has_positions=has_positions)
        branches = {"SelfAttention": attention, "DenseReluDense": FeedForward(shape, rate=rate)}
        self.layer = nn.ModuleList(Sublayer(name, branch, shape, rate=rate) for name, branch in branches.items())

    def forward(self, x: Tensor, bias: Tensor, by: Packing | None) -> Tensor:
        """(B, L, D) or, packed, (P, D). bias, by: as of `SelfAttention`."""
        attention, feed_forward = self.layer
        return feed_forward(attention(x, bias, by))


class Layers(nn.Module):
    """All layers, and the norm that ends them."""

    def __init__(self, shape: T5Shape, *, rate: float):
        super().__init__()
        self.shape, self.rate = shape, rate
        self.block = nn.ModuleList(Layer(shape, rate=rate, has_positions=place == 0) for place in range(shape.depth))
        self.final_layer_norm = nn.RMSNorm(shape.width, eps=shape.eps)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """x: (B, L, D). attended: (B, L) bool, the tokens that count; None is all. The others' states are 0."""
        table = self.block[0].layer[0].SelfAttention.relative_attention_bias  # type: ignore[union-attr, index]
        bias = table(relative_buckets(x.shape[1], self.shape, x.device)).permute(2, 0, 1)[None]  # type: ignore[operator]
        if attended is not None:
            bias = bias.masked_fill(~attended[:, None, None, :], torch.finfo(bias.dtype).min)
        by = None if attended is None else packing(attended)
        x = dropout(packed(x, by), self.rate, self.training)
        for layer in self.block:
            x = layer(x, bias, by)
        return padded(dropout(self.final_layer_norm(x), self.rate, self.training), by)


class T5Encoder(nn.Module):
    """Token ids (B, L) -> tokens in their context (B, L, D). dropout: rate in training, everywhere T5 has one."""

    def __init__(self, shape: T5Shape, *, vocabulary: int, dropout: float = 0.0):
        super().__init__()
        self.shared = nn.Embedding(vocabulary, shape.width)
        self.encoder = Layers(shape, rate=dropout)

    def forward(self, token_ids: Tensor, attended: Tensor | None = None) -> Tensor:
        """attended: (B, L) bool, the tokens that count; None is all, padding too. The others' states are 0."""
        return self.encoder(self.shared(token_ids), attended)


def relative_buckets(tokens: int, shape: T5Shape, device: torch.device) -> Tensor:
    """Bucket of the distance from each query to each key: (L, L) int64.

    Half of the buckets are for keys after the query. In each half, the first half of the buckets are of one distance
    each, and the others grow with the logarithm of the distance up to `max_distance`, beyond which all is one bucket.
    """
    places = torch.arange(tokens, device=device)
    distance = places[None, :] - places[:, None]
    half = shape.buckets // 2
    exact = half // 2
    far = distance.abs()
    growth = torch.log(far.clamp(min=1).float() / exact) / log(shape.max_distance / exact) * (half - exact)
    bucket = torch.where(far < exact, far, (exact + growth.long()).clamp(max=half - 1))
    return bucket + half * (distance > 0)


def read_t5_folder(folder: Path) -> tuple[T5Shape, dict[str, Tensor]]:
    """Sizes and encoder state of a local T5 folder: `config.json`, and the weights in one or more safetensors files.

    A decoder in it is left out. A folder without weights, or whose two tables of token vectors differ, is a ValueError.
    """
    shape = shape_of(read_json(folder / "config.json"))
    state: dict[str, Tensor] = {}
    for file in sorted(folder.glob("*.safetensors")):
        state |= read_weights(file)
    if not state:
        raise ValueError(f"{folder} has no weights: no *.safetensors")
    return shape, encoder_state(state)


def load_encoder(folder: Path) -> T5Encoder:
    """The encoder of a local T5 folder, in eval mode. Errors: see `read_t5_folder`."""
    shape, state = read_t5_folder(folder)
    encoder = T5Encoder(shape, vocabulary=len(state[EMBEDDING]))
    load_exactly(encoder, state)
    return encoder.eval()


def mean_vectors(encoder: T5Encoder, token_ids: NDArray, lengths: NDArray) -> NDArray[np.float32]:
    """The mean of a T5's states over the tokens of each text: what says how alike two texts are.

    token_ids (n, M), padded; lengths (n,). Returns (n, D). Padding changes nothing.
    """
    device, found = encoder.shared.weight.device, []
    with torch.inference_mode():
        for first in range(0, len(token_ids), BATCH):
            some = slice(first, first + BATCH)
            ids = torch.from_numpy(token_ids[some, : lengths[some].max()]).to(device, torch.long)
            is_word = torch.arange(ids.shape[1], device=device) < torch.from_numpy(lengths[some]).to(device)[:, None]
            found.append((encoder(ids, is_word).sum(dim=1) / is_word.sum(dim=1, keepdim=True)).float().cpu())
    return torch.cat(found).numpy()


def encoder_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's own part of a T5 state, with the table of token vectors once, as float32."""
    own = {name: tensor.float() for name, tensor in state.items() if not name.startswith(OTHERS)}
    again = own.pop(EMBEDDING_AGAIN, None)
    if again is not None and not torch.equal(own.setdefault(EMBEDDING, again), again):
        raise ValueError(f"{EMBEDDING} and {EMBEDDING_AGAIN} differ, and must be one table")
    return own


def _linear(inputs: int, outputs: int, *, std: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer
