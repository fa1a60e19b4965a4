"""The discrete VAE that BEiT's authors offer beside DALL-E's, as their `customized` tokenizer, with its loss.

Convolutions of stride 2, each followed by a residual block, a codebook, and the mirror image of the encoder.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import log

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, mse_loss

from ecg_pipeline.tokens.discrete_vae import Residual


@dataclass(frozen=True)
class CustomisedShape:
    """Sizes of the network; the defaults are the authors'."""

    vocabulary: int = 8192
    code_width: int = 512
    halvings: int = 3
    hidden: int = 256
    channels: int = 3


class CustomisedVae(nn.Module):
    """Images (B, 3, S, S) in [-1, 1] -> logits (B, V, h, w), h = S / 2^halvings; codes of that shape -> images."""

    def __init__(self, shape: CustomisedShape):
        super().__init__()
        down: list[nn.Module] = []
        for before, after in pairwise([shape.channels, *[shape.hidden] * shape.halvings]):
            down += [nn.Sequential(nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()), Residual(after)]
        up: list[nn.Module] = []
        for before, after in pairwise([shape.code_width, *[shape.hidden] * shape.halvings]):
            up += [nn.Sequential(nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.ReLU()), Residual(after)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(shape.hidden, shape.vocabulary, 1))
        self.codebook = nn.Embedding(shape.vocabulary, shape.code_width)
        self.decoder = nn.Sequential(*up, nn.Conv2d(shape.hidden, shape.channels, 1))

    def encode(self, images: Tensor) -> Tensor:
        """Logits of the tokens."""
        return self.encoder(images)

    def decode(self, codes: Tensor) -> Tensor:
        """Images reconstructed from codes (B, V, h, w), one-hot or soft."""
        return self.decoder(torch.einsum("bvhw,vd->bdhw", codes, self.codebook.weight))

    def load_official_state(self, state: Mapping[str, Tensor]) -> None:
        """Load weights under their official names; keys that are missing or unexpected raise."""
        self.load_state_dict({name.replace(".net.", ".f."): tensor for name, tensor in state.items()})


def divergence_from_uniform(logits: Tensor) -> Tensor:
    """Kullback-Leibler divergence of each position's codes from the uniform distribution, (B, h w), in nats."""
    logarithms = log_softmax(logits, dim=1)
    return (logarithms.exp() * (logarithms + log(logits.shape[1]))).sum(dim=1).flatten(1)


def official_loss(images: Tensor, *, logits: Tensor, reconstructed: Tensor, divergence_weight: float) -> Tensor:
    """The authors' training loss. Its divergence is summed over the batch, not averaged, so that a weight above zero
    counts more in a larger batch."""
    return mse_loss(reconstructed, images) + divergence_weight * divergence_from_uniform(logits).sum()
