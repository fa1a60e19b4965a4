"""Heads of D-BETA's pretraining: words, the reconstructed ECG, and whether ECG and text belong together.

The network draws their first weights, see `fusion.initialise`.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from ecg_pipeline.models.d_beta.fusion import EPS
from ecg_pipeline.models.d_beta.recipes import POSITIONS, DBetaRecipe


class WordHead(nn.Module):
    """States of a text -> logits of the vocabulary: (..., H) -> (..., V)."""

    def __init__(self, width: int, vocabulary: int):
        super().__init__()
        self.transform = nn.Module()
        self.transform.dense, self.transform.LayerNorm = nn.Linear(width, width), nn.LayerNorm(width, eps=EPS)
        self.decoder = nn.Linear(width, vocabulary, bias=False)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        """(..., H) -> (..., V)."""
        x = self.transform.LayerNorm(gelu(self.transform.dense(x)))  # type: ignore[operator]
        return self.decoder(x) + self.bias


class MatchingHead(nn.Module):
    """Vectors of text and ECG (B, 2 H) -> logits (B, 2): they do not, or they do belong together."""

    def __init__(self, width: int):
        super().__init__()
        self.fc = nn.Linear(2 * width, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2 H) -> (B, 2)."""
        return self.fc(x)


class DecoderAttention(nn.Module):
    """Self-attention whose three projections are one matrix: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        projected = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = projected.unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out_proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm, as in CLIP (Radford et al. 2021): (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.attn, self.mlp = DecoderAttention(width, heads), nn.Module()
        self.mlp.c_fc, self.mlp.c_proj = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        x = x + self.attn(self.ln_1(x))
        inner = self.mlp.c_fc(self.ln_2(x))  # type: ignore[operator]
        return x + self.mlp.c_proj(inner * torch.sigmoid(1.702 * inner))  # type: ignore[operator]


class ReconstructionHead(nn.Module):
    """States of the ECG tokens that were kept -> all tokens of the ECG: (B, 1 + K, H) -> (B, N, L, samples)."""

    def __init__(self, recipe: DBetaRecipe):
        super().__init__()
        width, self.patch = recipe.decoder_width, (recipe.ecg_shape.leads, recipe.samples_per_token)
        self.decoder_embed = nn.Linear(recipe.joint_width, width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        self.decoder_pos_embed = nn.Module()
        self.decoder_pos_embed.register_buffer("pe", position_table(POSITIONS, width)[None])
        self.decoder = nn.Module()
        self.decoder.resblocks = nn.Sequential(
            *(DecoderLayer(width, recipe.decoder_heads) for _ in range(recipe.decoder_depth))
        )
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder_pred = nn.Linear(width, self.patch[0] * self.patch[1])

    def forward(self, x: Tensor, order: Tensor) -> Tensor:
        """x: (B, 1 + K, H), the class token first. order: (B, N), places of the tokens: the first K are those of x, in
        x's order, and the others were removed.
        """
        x = self.decoder_embed(x)
        (batch, kept, width), tokens = x[:, 1:].shape, order.shape[1]
        removed = self.mask_token.to(x.dtype).expand(batch, tokens - kept, -1)
        shuffled = torch.cat([x[:, 1:], removed], dim=1)
        whole = shuffled.gather(1, order.argsort(dim=1)[..., None].expand(-1, -1, width))
        positions: Tensor = self.decoder_pos_embed.pe[:, : 1 + tokens]  # type: ignore[index, assignment]
        y = self.decoder.resblocks(torch.cat([x[:, :1], whole], dim=1) + positions)  # type: ignore[operator]
        return self.decoder_pred(self.decoder_norm(y))[:, 1:].unflatten(2, self.patch)


def position_table(positions: int, width: int) -> Tensor:
    """Sines and cosines of each position, one beside the other: (positions, width) float32."""
    rates = torch.exp(torch.arange(0, width, 2) * (-torch.log(torch.tensor(10000.0)) / width))
    angles = torch.arange(positions)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
