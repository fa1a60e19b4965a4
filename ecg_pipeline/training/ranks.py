"""Several processes as one trainer: each takes its share of every batch, and what they learn is summed."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce, barrier, init_process_group
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Ranks:
    """This process among `size`, and the device that it has to itself. One process alone is rank 0 of 1."""

    device: str = "cpu"
    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, batch: int) -> range:
        """The images of a batch that this process sees."""
        return range(batch * self.rank // self.size, batch * (self.rank + 1) // self.size)

    def together(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients become their mean over all processes."""
        return DistributedDataParallel(network, broadcast_buffers=False) if self.size > 1 else network

    def total(self, values: Tensor) -> Tensor:
        """The sum over all processes, the same in each."""
        if self.size > 1:
            all_reduce(values)
        return values

    def wait(self) -> None:
        """Until all have come as far."""
        if self.size > 1:
            barrier()


def meet(device: str) -> Ranks:
    """The processes that `torchrun` started, met by gloo on processors and nccl on GPUs; this one alone otherwise."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Ranks(device)
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return Ranks(device, int(os.environ["RANK"]), size)
