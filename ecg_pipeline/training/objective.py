"""What the pretraining loop asks of a family's objective, whatever it predicts from what."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray
from torch import Tensor, nn

M = TypeVar("M")
"""A family's own type of micro-batch."""


class Objective(Protocol[M]):
    """The task that pretrains a network: what is random in it is a function of seed, step and place in the batch."""

    @property
    def network(self) -> nn.Module:
        """The module to train."""
        ...

    @property
    def group(self) -> int:
        """The number of consecutive examples that always go through the network together; more than 1 where the loss is
        not a sum over examples, such as one that compares the examples of a group."""
        ...

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """The optimiser's parameter groups; each may have AdamW's betas and eps of its own, or `UNCORRECTED_EPS`."""
        ...

    def micro_batch(self, arrays: Mapping[str, NDArray], places: range, *, step: int, device: str) -> M:
        """The examples at some places of a step's batch, with their targets, on a device.

        arrays: the view and the targets of the whole batch, by name.
        """
        ...

    def count(self, micro_batch: M) -> Tensor:
        """Numbers of loss terms, integers of any fixed shape, such as by place in an image.

        The loss of a batch is a mean over all its terms.
        """
        ...

    def backward(self, network: nn.Module, micro_batch: M, *, weight: float) -> Tensor:
        """Accumulate the gradient of `weight` times the micro-batch's summed loss.

        network: `self.network`, possibly wrapped for several processes. Returns sums (S,), the unweighted loss first;
        those of all micro-batches are added.
        """
        ...

    def point(self, sums: Tensor, count: int) -> dict[str, float]:
        """Metrics of a step from the sums and the number of terms of its whole batch; `loss` is one of them."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The weights to save, under the names of the family's authors."""
        ...

    def facts(self, counts: Tensor, examples: int) -> dict[str, Any]:
        """What the checkpoint's config says of this objective.

        counts: the sum of `count` over all steps. examples: how many were seen in all steps, with repetition.
        """
        ...
