"""The four losses of D-BETA."""

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

VARIANCE_EPS = 1e-6
"""Added to a lead's variance when the ECG to be reconstructed is standardised."""


def pair_signs(is_aligned: Tensor) -> Tensor:
    """What an ECG and a text of a group should be: 1 alike, -1 unlike. Only an ECG's own text is like it.

    is_aligned: (B,) bool, whether the text of an ECG is its own. Returns (B, B), ECGs by texts.
    """
    count = len(is_aligned)
    signs = torch.full((count, count), -1.0, device=is_aligned.device)
    return signs + 2 * torch.diag(is_aligned.float())


def pair_loss(
    similarities: Tensor, is_aligned: Tensor, *, counts: Tensor | None = None, scale: float = 1.0, bias: float = 0.0
) -> Tensor:
    """ETS, the contrast of the vectors of ECGs and texts: the mean of -log sigmoid(sign x logit) over all pairs, not
    over ECGs as in SigLIP (Zhai et al. 2023).

    similarities: (B, B), dot products, which are not normalised. counts: (B, B) bool, the pairs that count; None is
    all. scale, bias: of the logits; D-BETA has neither.
    """
    losses = -logsigmoid(pair_signs(is_aligned) * (scale * similarities + bias))
    return losses.mean() if counts is None else losses[counts].mean()


def reconstruction_target(x: Tensor, *, tokens: int, samples: int, standardised: bool) -> Tensor:
    """What is to be reconstructed of ECGs as the network sees them: (B, L, T) -> (B, tokens, L, samples).

    Samples beyond the last token are left out. standardised: each lead of an ECG, by the variance of a sample (n - 1).
    """
    x = x[..., : tokens * samples]
    if standardised:
        x = (x - x.mean(dim=-1, keepdim=True)) / (x.var(dim=-1, keepdim=True) + VARIANCE_EPS).sqrt()
    return x.unflatten(2, (tokens, samples)).transpose(1, 2)


def reconstruction_loss(found: Tensor, target: Tensor, is_removed: Tensor) -> Tensor:
    """MEM: mean square of the error of the tokens that were removed. found, target: (B, N, L, samples). is_removed:
    (B, N) bool.
    """
    return (found - target).square().mean(dim=(2, 3))[is_removed].mean()


def word_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """MLM: mean cross entropy of the masked tokens, 0 if there is none. logits: (n, V). labels: (n,)."""
    return cross_entropy(logits, labels, reduction="sum") / max(1, len(labels))


def matching_loss(logits: Tensor, is_aligned: Tensor) -> Tensor:
    """ETM: mean cross entropy of whether ECG and text belong together. logits: (B, 2). is_aligned: (B,) bool."""
    return cross_entropy(logits, is_aligned.long())
