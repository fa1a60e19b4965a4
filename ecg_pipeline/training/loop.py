"""Shared by the training loops: a checked optimiser step, and a run state from which a killed run resumes exactly."""

import time
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg_pipeline.storage.files import write_atomically

SAVE_SECONDS = 60.0
"""How often the state of a run is saved. When it is saved does not change the result."""


class NotFinite(FloatingPointError):  # noqa: N818
    """A loss or gradient is not finite. The weights are still those before the step."""


def step_seed(seed: int, step: int) -> int:
    """Seed of one step's random numbers: a function of the run's seed and the step, so no generator state is saved."""
    return (seed << 32) + step


def seed_step(seed: int, step: int) -> None:
    """Seed torch's global generator, which drop path draws from, for a step."""
    torch.manual_seed(step_seed(seed, step))


def backward_and_step(
    model: nn.Module, loss: Tensor, optimiser: torch.optim.Optimizer, clip: float | None, step: int
) -> float:
    """Backward pass and optimiser step; return the norm before clipping. NotFinite before any weight changes."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    return clip_and_step(model, loss.item(), optimiser, clip, step)


def clip_and_step(
    model: nn.Module, loss: float, optimiser: torch.optim.Optimizer, clip: float | None, step: int
) -> float:
    """Clip the model's gradients of `loss` and step the optimiser; return their norm before clipping."""
    if not isfinite(loss):
        raise NotFinite(f"step {step}: the loss is {loss}; lower the learning rate or look at this batch")
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    total = nn.utils.get_total_norm(gradients)
    if not isfinite(norm := float(total)):
        raise NotFinite(f"step {step}: the gradient is not finite though the loss is {loss:.4g}")
    if clip is not None and norm > clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), clip, total)
    optimiser.step()
    return norm


class RunState:
    """State of a run on disk: a hidden file in its folder until the run is done."""

    def __init__(self, folder: Path, device: str):
        self.path = folder / ".run_state.pt"
        self.device = device
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Load the last saved state; None at the start of a run. Only tensors and plain values are read."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location=self.device, weights_only=True)

    def save(self, state: dict[str, Any]) -> None:
        """Save a state, atomically."""
        write_atomically(self.path, lambda path: torch.save(state, path))
        self.saved_at = time.monotonic()

    def is_time(self) -> bool:
        """Whether the last state was saved long enough ago."""
        return time.monotonic() - self.saved_at > SAVE_SECONDS

    def discard(self) -> None:
        """Delete the state of a run that is done."""
        self.path.unlink(missing_ok=True)
