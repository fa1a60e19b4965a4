"""Layers in which one modality attends to itself and then to the other, as BERT's (Devlin et al. 2019).

Modules bear the names of the authors' checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

EPS = 1e-12
"""Of BERT's layer norms."""

INITIAL_STD = 0.02

MLP_RATIO = 4
"""Hidden width of a layer's MLP, as a multiple of its width."""


class Projections(nn.Module):
    """Attention of some tokens to others: (B, Q, H), (B, K, H) -> (B, Q, H)."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.query, self.key, self.value = (linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, others: Tensor, attended: Tensor | None) -> Tensor:
        """attended: (B, K) bool, the others that count; None is all."""
        q, k, v = (
            projection(tokens).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for projection, tokens in ((self.query, x), (self.key, others), (self.value, others))
        )
        mask = None if attended is None else attended[:, None, None, :]
        rate = self.rate if self.training else 0.0
        return scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate).transpose(1, 2).flatten(2)


class Residual(nn.Module):
    """The end of a branch: a linear layer, the residual connection, and a norm."""

    def __init__(self, inputs: int, width: int, *, rate: float):
        super().__init__()
        self.rate = rate
        self.dense = linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """branch: (B, T, inputs). x: (B, T, H), what the branch began with."""
        return self.LayerNorm(x + dropout(self.dense(branch), self.rate, self.training))


class Attention(nn.Module):
    """An attention with its residual connection."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.self = Projections(width, heads=heads, rate=rate)
        self.output = Residual(width, width, rate=rate)

    def forward(self, x: Tensor, others: Tensor, attended: Tensor | None) -> Tensor:
        """x: (B, Q, H). others: (B, K, H). attended: (B, K) bool."""
        return self.output(self.self(x, others, attended), x)


class FusionLayer(nn.Module):
    """Self-attention, attention to the other modality, and an MLP: (B, T, H) -> (B, T, H)."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.attention, self.crossattention = (Attention(width, heads=heads, rate=rate) for _ in range(2))
        self.intermediate = Dense(width, MLP_RATIO * width)
        self.output = Residual(MLP_RATIO * width, width, rate=rate)

    def forward(
        self,
        x: Tensor,
        other: Tensor,
        *,
        attended: Tensor | None,
        other_attended: Tensor | None,
        rows: slice = slice(None),
    ) -> Tensor:
        """x, other: (B, T, H), (B, K, H). attended, other_attended: (B, T), (B, K) bool, the keys that count in each.

        rows: the tokens whose output is wanted.
        """
        y = self.attention(x[:, rows], x, attended)
        y = self.crossattention(y, other, other_attended)
        return self.output(gelu(self.intermediate(y)), y)


class Dense(nn.Module):
    """A linear layer under the name `dense`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.dense = linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return self.dense(x)


class Pooler(Dense):
    """The vector of an example, from its first token: (B, T, H) -> (B, H), between -1 and 1."""

    def __init__(self, width: int):
        super().__init__(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, H) -> (B, H)."""
        return torch.tanh(self.dense(x[:, 0]))


def linear(inputs: int, outputs: int, *, bias: bool = True) -> nn.Linear:
    """A linear layer, initialised like BERT's."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
