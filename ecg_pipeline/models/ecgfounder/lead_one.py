"""Lead I of twelve-lead windows, as the network with one lead reads it."""

import torch
from torch import Tensor

from ecg_pipeline.ecg import LEADS

EPS = 1e-8
"""Added to a standard deviation, as in the released code."""


def lead_one(x: Tensor, *, angles: Tensor | None = None, signs: Tensor | None = None) -> Tensor:
    """(B, 12, T) in the order of LEADS -> (B, 1, T): lead I, standardised by itself over what was recorded.

    angles: (B,) in radians, lead I becomes cos(a) I + sin(a) aVF. signs: (B,), 1 or -1. Zeros in all leads, such as
    those after the end of a short recording, remain zeros and count neither in the mean nor in the deviation.
    """
    recorded = x.ne(0).any(dim=1, keepdim=True)
    lead = x[:, LEADS.index("I"), None]
    if angles is not None:
        avf = x[:, LEADS.index("aVF"), None]
        lead = angles.cos()[:, None, None] * lead + angles.sin()[:, None, None] * avf
    if signs is not None:
        lead = signs[:, None, None] * lead
    samples = recorded.sum(dim=-1, keepdim=True).clamp(min=1)
    lead = recorded * (lead - lead.sum(dim=-1, keepdim=True) / samples)
    deviation = (lead.square().sum(dim=-1, keepdim=True) / samples).sqrt()
    return lead / (deviation + EPS)


def sample_axes(
    batch: int, *, inverted: float, turn_degrees: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Angles in radians and signs, (batch,) each, of a whole batch: those of an example depend on its place alone."""
    angles = (2 * torch.rand(batch, generator=generator) - 1) * torch.pi * turn_degrees / 180
    signs = torch.where(torch.rand(batch, generator=generator) < inverted, -1.0, 1.0)
    return angles, signs
