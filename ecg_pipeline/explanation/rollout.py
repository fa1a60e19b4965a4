"""Attention rollout (Abnar and Zuidema 2020), of image transformers."""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from ecg_pipeline.explanation.attention import attention_weights
from ecg_pipeline.explanation.places import spread
from ecg_pipeline.training.classifier import Classifier

TRANSFORMERS = (Beit, VisionTransformer)


def has_attention(classifier: Classifier) -> bool:
    """Whether `rollout` is defined: an image transformer with global attention over patch tokens."""
    return isinstance(_network(classifier), TRANSFORMERS)


def rollout(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Attention rollout: (B, H, W), each pixel's share in the token that is classified.

    The residual path counts as half of every block. A map sums to 1 minus the share that stays in the class token. A
    network without attention (`has_attention`) is a ValueError.
    """
    network = _network(classifier)
    if not isinstance(network, TRANSFORMERS):
        raise ValueError(f"{type(network).__name__} has no attention, so no rollout")
    weights, grid = attention_weights(classifier, images)
    rolled = combine_attention(weights)
    prefix = rolled.shape[-1] - prod(grid)
    pooled = rolled[:, 0] if getattr(network, "global_pool", None) == "token" else rolled[:, prefix:].mean(1)
    return spread(pooled[:, prefix:].reshape(-1, *grid), images.shape[1:]).cpu().numpy()


def combine_attention(weights: Sequence[Tensor]) -> Tensor:
    """Attention weights (B, heads, N, N) of each block -> (B, N, N): share of each input token in each output token."""
    rolled = torch.eye(weights[0].shape[-1], dtype=torch.float64, device=weights[0].device)[None]
    for block in weights:
        mixed = block.double().mean(1) + torch.eye(block.shape[-1], dtype=torch.float64, device=block.device)
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    return rolled


def _network(classifier: Classifier) -> nn.Module:
    """What the families of images wrap, or the classifier itself."""
    return getattr(classifier, "network", classifier)
