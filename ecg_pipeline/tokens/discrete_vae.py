"""A small discrete VAE for ECG sheets: 112 x 112 grey pixels to 14 x 14 tokens and back."""

import torch
from torch import Tensor, nn
from torch.nn.functional import softmax

STAGES = 3
"""Halvings of the image: a token stands for 8 x 8 pixels of the token view, so for one 16 x 16 patch of the sheet."""


class DiscreteVae(nn.Module):
    """Ink (B, 1, S, S) in [0, 1] -> logits (B, V, S/8, S/8); codes of that shape -> ink."""

    def __init__(self, vocabulary: int, hidden: int):
        super().__init__()
        down: list[nn.Module] = []
        for stage in range(STAGES):
            down += [nn.Conv2d(1 if stage == 0 else hidden, hidden, 4, stride=2, padding=1), nn.ReLU()]
        self.encoder = nn.Sequential(*down, Residual(hidden), nn.Conv2d(hidden, vocabulary, 1))
        self.codebook = nn.Parameter(torch.randn(vocabulary, hidden) / hidden**0.5)
        up: list[nn.Module] = [Residual(hidden)]
        for _ in range(STAGES):
            up += [nn.ConvTranspose2d(hidden, hidden, 4, stride=2, padding=1), nn.ReLU()]
        self.decoder = nn.Sequential(*up, nn.Conv2d(hidden, 1, 1), nn.Sigmoid())

    def encode(self, ink: Tensor) -> Tensor:
        """Logits of the tokens."""
        return self.encoder(ink)

    def decode(self, codes: Tensor) -> Tensor:
        """Ink drawn from codes, one-hot or soft, (B, V, H, W) -> (B, 1, 8 H, 8 W)."""
        return self.decoder(torch.einsum("bvhw,vd->bdhw", codes, self.codebook))


class Residual(nn.Module):
    """x + f(x), f three convolutions."""

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


def relaxed_codes(logits: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
    """Soft one-hot codes (Gumbel-softmax), (B, V, H, W): the sample that gradients pass through."""
    uniform = torch.rand(logits.shape, generator=generator).to(logits.device).clamp_min(1e-20)
    return softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=1)
