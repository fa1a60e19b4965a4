"""A small discrete VAE for ECG images: 112 x 112 grey pixels to 14 x 14 tokens and back."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

STAGES = 3
"""Halvings of the image: a token covers 8 x 8 pixels of the token view, which is one 16 x 16 patch of the image."""

LOGIT_SCALE = 3.0
"""Standard deviation of the initial logits. It exceeds that of the Gumbel noise, so different patches have different
codes from the first step on."""

INITIAL_INK = 0.08
"""Output of an untrained decoder at every pixel: about the mean ink of an ECG image."""


class DiscreteVae(nn.Module):
    """Ink (B, 1, S, S) in [0, 1] -> logits (B, V, S/8, S/8); codes of that shape -> ink.

    hidden: width after the first halving, doubled by each further one. The decoder works at the tokens' resolution and
    reconstructs the 8 x 8 pixels of a patch at once (pixel shuffle), which makes training on CPUs affordable.
    """

    def __init__(self, *, vocabulary: int, hidden: int):
        super().__init__()
        widths = [1, *(hidden * 2**stage for stage in range(STAGES))]
        width = widths[-1]
        down: list[nn.Module] = []
        for before, after in pairwise(widths):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.ReLU()]
        logits = nn.Conv2d(width, vocabulary, 1)
        nn.init.normal_(logits.weight, std=LOGIT_SCALE / width**0.5)
        # Mostly blank patches give nearly equal features: without batch norm all codes are equal for many steps.
        self.encoder = nn.Sequential(*down, Residual(width), nn.BatchNorm2d(width), logits)
        self.codebook = nn.Parameter(torch.randn(vocabulary, width) / width**0.5)
        pixels = nn.Conv2d(width, 4**STAGES, 3, padding=1)
        nn.init.constant_(pixels.bias, torch.logit(torch.tensor(INITIAL_INK)).item())  # type: ignore[arg-type]
        self.decoder = nn.Sequential(Residual(width), pixels, nn.PixelShuffle(2**STAGES), nn.Sigmoid())

    def encode(self, ink: Tensor) -> Tensor:
        """Logits of the tokens."""
        return self.encoder(ink)

    def decode(self, codes: Tensor) -> Tensor:
        """Ink reconstructed from codes, one-hot or soft: (B, V, H, W) -> (B, 1, 8 H, 8 W)."""
        return self.decoder(torch.einsum("bvhw,vd->bdhw", codes, self.codebook))


class Residual(nn.Module):
    """A residual block: x + f(x), f three convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) -> (B, D, H, W)."""
        return x + self.f(x)


def gumbel_noise(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard Gumbel noise of the shape and on the device of `like`, sampled on the CPU so that devices agree."""
    uniform = torch.rand(like.shape, generator=generator).to(like.device).clamp_min(1e-20)
    return -torch.log(-torch.log(uniform))


def relaxed_codes(logits: Tensor, *, noise: Tensor, temperature: float) -> Tensor:
    """Gumbel-softmax sample of one-hot codes, relaxed so that gradients pass: (B, V, H, W) -> (B, V, H, W)."""
    return softmax((logits + noise) / temperature, dim=1)
