"""The two contrasts of ECG-FM: masked frames with their targets, and the two segments of a recording (CMSC)."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

EPS = 1e-8
"""Least norm of a vector that is divided by its norm."""


def frame_logits(context: Tensor, targets: Tensor, *, codes: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Cosines over the temperature of each context with its own target, then with its negatives: (B, T, 1 + N).

    context, targets: (B, T, D). codes: (B, T) of the targets. negatives: (B, T, N), places among the T targets of the
    segment. A negative with the code of the target is the target, so its logit is -inf; this is decided by the codes,
    because equal vectors may differ by rounding. All cosines of a segment are one matrix, of which scalars are
    gathered, so no vector of a negative is ever copied.
    """
    cosines = normalize(context, dim=-1, eps=EPS) @ normalize(targets, dim=-1, eps=EPS).mT / temperature
    own = cosines.diagonal(dim1=1, dim2=2)[..., None]
    is_same = codes[:, :, None] == codes[:, None, :]
    others = cosines.masked_fill(is_same, float("-inf")).gather(2, negatives)
    return torch.cat([own, others], dim=-1)


def mean_over_time(frames: Tensor) -> Tensor:
    """The mean of each channel over the frames in which it is not 0, as padding is: (B, T, D) -> (B, D)."""
    return frames.sum(dim=1) / (frames != 0).sum(dim=1).clamp(min=1)


def cmsc_loss(segments: Tensor, *, recordings: Tensor, places: Tensor, temperature: float) -> Tensor:
    """Contrastive multi-segment coding (Kiyasseh et al. 2021): each first segment finds the second of its recording
    among all second ones, and the other way round. Mean over both and over all pairs.

    segments: (B, D). recordings: (B,) ids. places: (B,), 0 for a first segment and 1 for a second. As in the released
    code, the norms that segments are divided by are constants, so the gradient is not that of a cosine.
    """
    unit = segments / segments.detach().norm(dim=1, keepdim=True).clamp(min=EPS)
    first, second = places == 0, places == 1
    logits = unit[first] @ unit[second].T / temperature
    is_pair = recordings[first][:, None] == recordings[second][None, :]
    rows, columns = logits.log_softmax(dim=1)[is_pair], logits.log_softmax(dim=0)[is_pair]
    return -(rows.mean() + columns.mean()) / 2
