"""Attention weights of a network, whatever its modules are called."""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ecg_pipeline.explanation.places import GridMode
from ecg_pipeline.training.classifier import Classifier


class _AttentionRecorder(GridMode):
    """Collects the attention weights (B, heads, N, N) of every block."""

    def __init__(self, axes: int) -> None:
        super().__init__(axes)
        self.weights: list[Tensor] = []

    def intercept(self, name: str, func: Callable, *, args: Any, kwargs: Any) -> Any:
        if name == "scaled_dot_product_attention":
            self.weights.append(_weights(*args, **kwargs))
        out = func(*args, **kwargs)
        if name == "softmax" and out.ndim == 4:
            self.weights.append(out)
        return out


def _weights(query: Tensor, key: Tensor, value: Tensor, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None):
    """The weights that `scaled_dot_product_attention` does not return."""
    logits = query @ key.mT * (scale or query.shape[-1] ** -0.5)
    if is_causal:
        attn_mask = torch.ones(logits.shape[-2:], dtype=torch.bool, device=logits.device).tril()
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        logits = logits.masked_fill(~attn_mask, float("-inf")) if is_bool else logits + attn_mask
    return logits.softmax(-1)


def attention_weights(classifier: Classifier, examples: NDArray) -> tuple[list[Tensor], tuple[int, ...]]:
    """Attention weights (B, heads, N, N) of each block, queries by keys, for stored examples (B, ...); and the grid of
    the last convolution, whose cells the tokens are."""
    stored = torch.from_numpy(examples).to(next(classifier.parameters()).device)
    classifier.eval()
    with torch.no_grad():
        x = classifier.normalise(stored)
        with _AttentionRecorder(axes=x.ndim - 2) as mode:
            classifier.encode(x)
    return mode.weights, mode.grid
