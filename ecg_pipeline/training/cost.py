"""What training one seed costs: parameters, and floating-point operations of all its steps, counted by PyTorch."""

from collections.abc import Callable

import torch
from torch import nn


def step_cost(network: nn.Module, step: Callable[[], object], *, steps: int) -> dict[str, int]:
    """Under the names of `checkpoints.COST`: the network's parameters, and the operations of `steps` steps.

    step: one forward and backward pass of a batch, the first of the run; it changes the gradients and buffers of
    `network`, which must not be the one that is trained. What is random in it stands for all steps.

    Operations are those of torch's `FlopCounterMode`: matrix products, convolutions and attention, a multiplication and
    an addition being two. Others, such as norms, activations and the optimiser, are not counted, in no family.
    """
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]), FlopCounterMode(display=False) as counter:
        step()
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return {"parameters": parameters, "flops": counter.get_total_flops() * steps}
