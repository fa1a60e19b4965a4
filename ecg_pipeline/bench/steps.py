"""The two sides of a comparison of training steps: of an objective of ours, and of a network with a loss."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ecg_pipeline.training.loop import clip_and_step
from ecg_pipeline.training.objective import M, Objective

Step = Callable[[], float]
"""One training step. Returns its loss."""


def our_loss(objective: Objective[M], micro_batch: M, *, count: int) -> float:
    """The mean loss of a batch of `count`, whose gradients are accumulated."""
    return objective.point(objective.backward(objective.network, micro_batch, weight=1 / count), count)["loss"]


def our_step(
    objective: Objective[M],
    draw: Callable[[], M],
    optimiser: torch.optim.Optimizer,
    *,
    count: int,
    clip: float | None,
) -> Step:
    """A step of an objective. draw: gives the batch of the step."""

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = our_loss(objective, draw(), count=count)
        clip_and_step(objective.network, optimiser, loss=loss, clip=clip, step=0)
        return loss

    return step


def their_step(
    network: nn.Module, mean_loss: Callable[[], Tensor], optimiser: torch.optim.Optimizer, *, clip: float | None
) -> Step:
    """A step of a network. mean_loss: of the batch, computed with this network."""

    def step() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = mean_loss()
        loss.backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()
        return loss.item()

    return step
