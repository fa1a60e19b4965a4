"""The two residual branches of a BEiT block, attention and MLP, computed only where the result is used.

Equal to timm's blocks up to rounding. Samples dropped by stochastic depth are skipped, and the last block of masked
image modelling is computed at masked patches only. `drop_path_scale` (B,) is the factor of a branch for each sample: 0
where stochastic depth drops it; None is no stochastic depth. `gamma` is the layer scale.
"""

from collections.abc import Callable

import torch
from timm.models.beit import Attention, Block
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention


def add_attention(block: Block, x: Tensor, *, bias: Tensor, drop_path_scale: Tensor | None = None) -> Tensor:
    """x plus the attention branch: (B, N, D) -> (B, N, D). bias: (heads, N, N), added to the attention logits."""

    def branch(x: Tensor) -> Tensor:
        q, k, v = _heads(block.attn, block.norm1(x), slice(0, 3))
        return _attention(block.attn, q, k, v, bias)

    return _add_branch(x, branch, block.gamma_1, drop_path_scale)


def masked_attention(
    block: Block, x: Tensor, *, bias: Tensor, mask: Tensor, drop_path_scale: Tensor | None = None
) -> Tensor:
    """The rows of `add_attention` at masked patches: (masked patches, D), row-major. Only these are queries.

    x: (B, P + 1, D), class token first; mask: (B, P) bool.
    """
    counts = mask.sum(dim=1, keepdim=True)
    most = int(counts.max())
    # (B, most) token indices, masked patches first; images with fewer masked patches are padded.
    places = 1 + (~mask).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    is_masked = torch.arange(most, device=mask.device) < counts  # (B, most), False at padding
    normed = block.norm1(x)
    queries = normed.gather(1, places[..., None].expand(-1, -1, x.shape[-1]))
    (q,) = _heads(block.attn, queries, slice(0, 1))
    k, v = _heads(block.attn, normed, slice(1, 3))
    rows = places[:, None, :, None].expand(-1, len(bias), -1, bias.shape[-1])
    bias_rows = bias.expand(len(x), -1, -1, -1).gather(2, rows)  # (B, heads, most, P + 1)
    y = _attention(block.attn, q, k, v, bias_rows)[is_masked]
    scale = None if drop_path_scale is None else drop_path_scale.to(x)[:, None].expand_as(is_masked)[is_masked]
    return _add_scaled(x[:, 1:][mask], y, block.gamma_1, scale)


def add_mlp(block: Block, x: Tensor, *, drop_path_scale: Tensor | None = None) -> Tensor:
    """x plus the MLP branch: (B, ..., D) -> (B, ..., D)."""
    return _add_branch(x, lambda x: block.mlp(block.norm2(x)), block.gamma_2, drop_path_scale)


def _heads(attention: Attention, x: Tensor, which: slice) -> tuple[Tensor, ...]:
    """Queries, keys and values, those that `which` selects: (B, N, D) -> (B, heads, N, D / heads) each."""
    heads = (-1, attention.num_heads, x.shape[-1] // attention.num_heads)
    weight = attention.qkv.weight.unflatten(0, (3, -1))[which].flatten(0, 1)
    bias = torch.stack([attention.q_bias, attention.k_bias, attention.v_bias])[which].flatten()  # type: ignore[list-item]
    return linear(x, weight, bias).unflatten(2, heads).permute(2, 0, 3, 1, 4).unbind(0)


def _attention(attention: Attention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """Attention and its projection: queries (B, heads, N, .), keys and values (B, heads, M, .) -> (B, N, D)."""
    if q.device.type == "cpu":  # the fused kernel has no gradient of the bias there, and PyTorch's fallback is slower
        y = ((q * attention.scale) @ k.transpose(-2, -1) + bias).softmax(dim=-1) @ v
    else:
        y = scaled_dot_product_attention(q, k, v, attn_mask=bias.expand(len(q), -1, -1, -1))
    return attention.proj(y.transpose(1, 2).flatten(2))


def _add_branch(
    x: Tensor, branch: Callable[[Tensor], Tensor], gamma: Tensor | None, drop_path_scale: Tensor | None
) -> Tensor:
    """x plus a branch of it. Samples dropped by stochastic depth are skipped."""
    if drop_path_scale is None or bool(drop_path_scale.all()):
        return _add_scaled(x, branch(x), gamma, drop_path_scale)
    # If all samples are dropped, one is computed with factor 0, so that every parameter has a gradient.
    alive = drop_path_scale.nonzero().squeeze(1) if drop_path_scale.any() else torch.zeros(1, dtype=torch.long)
    scale, alive = drop_path_scale[alive], alive.to(x.device)
    y = branch(x.index_select(0, alive))
    return x.index_add(0, alive, (y * _scale(gamma, scale, y)).to(x.dtype))


def _add_scaled(x: Tensor, y: Tensor, gamma: Tensor | None, drop_path_scale: Tensor | None) -> Tensor:
    return torch.addcmul(x, _scale(gamma, drop_path_scale, x), y)


def _scale(gamma: Tensor | None, drop_path_scale: Tensor | None, x: Tensor) -> Tensor:
    """Layer scale times drop path factor, to multiply a branch of x (B, ..., D)."""
    scale = x.new_ones(1) if drop_path_scale is None else drop_path_scale.to(x)
    scale = scale.reshape(-1, *[1] * (x.ndim - 1))
    return scale if gamma is None else scale * gamma
