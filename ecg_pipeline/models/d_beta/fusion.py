"""Layers in which one modality attends to itself and then to the other, as BERT's (Devlin et al. 2019).

Modules bear the names of the authors' checkpoints.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention

from ecg_pipeline.models.packing import Packing, packed, padded

EPS = 1e-12
"""Of BERT's layer norms."""

MLP_RATIO = 4
"""Hidden width of a layer's MLP, as a multiple of its width."""


class Projections(nn.Module):
    """Attention of some tokens to others: (B, Q, H), (B, K, H) -> (B, Q, H), where each may be packed."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.heads, self.rate = heads, rate
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, others: Tensor, *, by: Packing | None, others_by: Packing | None) -> Tensor:
        """by, others_by: how x and the others are packed."""
        q = padded(self.query(x), by).unflatten(2, (self.heads, -1)).transpose(1, 2)
        together = padded(torch.cat([self.key(others), self.value(others)], dim=-1), others_by)
        k, v = together.unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if others_by is None else others_by.is_word[:, None, None, :]
        rate = self.rate if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=rate)
        return packed(y.transpose(1, 2).flatten(2), by)


class Residual(nn.Module):
    """The end of a branch: a linear layer, the residual connection, and a norm."""

    def __init__(self, inputs: int, width: int, *, rate: float):
        super().__init__()
        self.rate = rate
        self.dense = nn.Linear(inputs, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPS)

    def forward(self, branch: Tensor, x: Tensor) -> Tensor:
        """branch: (..., inputs). x: (..., H), what the branch began with."""
        return self.LayerNorm(x + dropout(self.dense(branch), self.rate, self.training))


class Attention(nn.Module):
    """An attention with its residual connection."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.self = Projections(width, heads=heads, rate=rate)
        self.output = Residual(width, width, rate=rate)

    def forward(self, x: Tensor, others: Tensor, *, by: Packing | None, others_by: Packing | None) -> Tensor:
        """x: (B, Q, H). others: (B, K, H). by, others_by: how they are packed."""
        return self.output(self.self(x, others, by=by, others_by=others_by), x)


class FusionLayer(nn.Module):
    """Self-attention, attention to the other modality, and an MLP: (B, T, H) or, packed, (P, H)."""

    def __init__(self, width: int, *, heads: int, rate: float):
        super().__init__()
        self.attention, self.crossattention = (Attention(width, heads=heads, rate=rate) for _ in range(2))
        self.intermediate = Dense(width, MLP_RATIO * width)
        self.output = Residual(MLP_RATIO * width, width, rate=rate)

    def forward(
        self, x: Tensor, other: Tensor, *, by: Packing | None, other_by: Packing | None, first_only: bool = False
    ) -> Tensor:
        """x, other: (B, T, H), (B, K, H). by, other_by: how they are packed. first_only: the output of each first token
        alone is wanted, of an x that is not packed.
        """
        y = self.attention(x[:, :1] if first_only else x, x, by=by, others_by=by)
        y = self.crossattention(y, other, by=by, others_by=other_by)
        return self.output(gelu(self.intermediate(y)), y)


class Dense(nn.Module):
    """A linear layer under the name `dense`."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)

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


def initialise(*modules: nn.Module, std: float) -> None:
    """Initialise layers as BERT's: weights from a normal distribution, biases 0. Norms stay as they are."""
    for module in modules:
        for name, parameter in module.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
