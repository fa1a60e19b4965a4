"""Data-parallel training: each process computes a slice of every batch, and gradients are averaged."""

import os
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class ProcessGroup:
    """This process's rank among `size` processes, and its device. The default is a single process: rank 0 of 1."""

    device: str = "cpu"
    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes and reports: rank 0."""
        return self.rank == 0

    def local_slice(self, batch: int, group: int = 1) -> range:
        """Places within a batch of the examples that this process computes. Groups of examples are not divided."""
        groups = -(-batch // group)
        first, end = groups * self.rank // self.size, groups * (self.rank + 1) // self.size
        return range(first * group, min(end * group, batch))

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, wrapped in `DistributedDataParallel` if there are several processes."""
        return DistributedDataParallel(network, broadcast_buffers=False) if self.size > 1 else network

    def all_reduce(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values

    def barrier(self) -> None:
        """Wait until all processes have reached this line."""
        if self.size > 1:
            distributed.barrier()


def init_process_group(device: str) -> ProcessGroup:
    """Join the process group that `torchrun` started, with gloo on CPUs and nccl on GPUs. Without it: one process."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup(device)
    if device.startswith("cuda"):
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    return ProcessGroup(device, int(os.environ["RANK"]), size)
