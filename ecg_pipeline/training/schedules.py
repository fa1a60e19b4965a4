"""Learning rate schedules, parameter groups of weight decay, and the eps of Adam."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def warmup_cosine(*, peak: float, final: float, epochs: int, steps_per_epoch: int, warmup_epochs: int) -> NDArray:
    """Learning rate of every step (steps,): linear from 0 to `peak`, then a cosine towards `final`.

    As in BEiT's own schedule, the peak occurs twice (end of the warm-up, start of the cosine), and the last step is
    still above `final`.
    """
    warmup = np.linspace(0, peak, warmup_epochs * steps_per_epoch)
    left = epochs * steps_per_epoch - len(warmup)
    cosine = final + 0.5 * (peak - final) * (1 + np.cos(np.pi * np.arange(left) / max(1, left)))
    return np.concatenate([warmup, cosine])


def one_cycle(optimiser: Optimizer, *, peak: float | list[float], epochs: int, steps_per_epoch: int) -> OneCycleLR:
    """The schedule of HeartBEiT's fine-tuning: `OneCycleLR` with PyTorch's defaults, stepped after every batch.

    The rate rises from a 25th of the peak over the first 30 % of the steps and falls to 4e-6 of it, both as a cosine,
    while the first moment's decay goes from 0.95 to 0.85 and back. peak: of all parameter groups, or of each.
    """
    return OneCycleLR(optimiser, peak, epochs=epochs, steps_per_epoch=steps_per_epoch)


UNCORRECTED_EPS = "uncorrected_eps"
"""Key of a parameter group: the eps of an Adam that adds it before the second moment's bias correction (fairseq's)."""


def corrected_eps(uncorrected: float, *, beta2: float, step: int) -> float:
    """The eps with which PyTorch's AdamW, which adds it after the correction, takes the same step. step: from 0 on."""
    return uncorrected / (1 - beta2 ** (step + 1)) ** 0.5


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW parameter groups of BEiT's authors: no weight decay for vectors, biases, position embeddings and the class
    token; weight decay for all else, the mask token and the relative position tables included."""

    def decays(name: str, parameter: nn.Parameter) -> bool:
        return parameter.ndim > 1 and not name.endswith((".bias", "pos_embed", "cls_token"))

    named: Iterable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for name, p in named if decays(name, p)], "weight_decay": weight_decay},
        {"params": [p for name, p in named if not decays(name, p)], "weight_decay": 0.0},
    ]
