"""Shared by both training loops: an optimiser step with checks, and the state from which a killed run resumes."""

import time
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecg_pipeline.storage.files import write_atomically

SAVE_SECONDS = 60.0
"""Interval at which the state of a run is saved; the result does not depend on it."""


class NotFinite(FloatingPointError):  # noqa: N818
    """A loss or gradient is NaN or infinite. Raised before the optimiser step, so the weights are unchanged."""


def step_seed(seed: int, *, step: int) -> int:
    """Seed of one step's random numbers, from the run's seed and the step, so that no generator state is saved."""
    return (seed << 32) + step


def seed_global_generator(seed: int, *, step: int) -> None:
    """Seed torch's global generator, which drop path samples from, for a step."""
    torch.manual_seed(step_seed(seed, step=step))


def backward_and_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, *, loss: Tensor, clip: float | None, step: int
) -> float:
    """Backward pass and optimiser step. Returns the gradient norm before clipping; raises as `clip_and_step` does."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    return clip_and_step(model, optimiser, loss=loss.item(), clip=clip, step=step)


def clip_and_step(
    model: nn.Module, optimiser: torch.optim.Optimizer, *, loss: float, clip: float | None, step: int
) -> float:
    """Clip the gradients of `loss` to the norm `clip` and step the optimiser. Returns the norm before clipping.

    step: number of the step, for the message. A loss or gradient that is not finite raises NotFinite instead.
    """
    if not isfinite(loss):
        raise NotFinite(f"step {step}: the loss is {loss}; lower the learning rate or inspect this batch")
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    total = nn.utils.get_total_norm(gradients)
    if not isfinite(norm := float(total)):
        raise NotFinite(f"step {step}: the gradient is not finite though the loss is {loss:.4g}")
    if clip is not None and norm > clip:
        nn.utils.clip_grads_with_norm_(model.parameters(), clip, total)
    optimiser.step()
    return norm


class RunState:
    """State of a running training on disk: a hidden file in its output folder, deleted when training is done."""

    def __init__(self, folder: Path, device: str):
        self.path = folder / ".run_state.pt"
        self.device = device
        self.saved_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """Load the last saved state; None if there is none. Reads tensors and plain values only (`weights_only`)."""
        if not self.path.exists():
            return None
        return torch.load(self.path, map_location=self.device, weights_only=True)

    def save(self, state: dict[str, Any]) -> None:
        """Save a state atomically."""
        write_atomically(self.path, lambda path: torch.save(state, path))
        self.saved_at = time.monotonic()

    def should_save(self) -> bool:
        """Whether the last state was saved more than `SAVE_SECONDS` ago."""
        return time.monotonic() - self.saved_at > SAVE_SECONDS

    def discard(self) -> None:
        """Delete the saved state."""
        self.path.unlink(missing_ok=True)
