"""Checkpoints: weights as safetensors beside a config."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_pipeline.storage.files import read_json

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """Weights and what they are weights of. Files: `weights.safetensors`, `config.json`."""

    folder: Path

    def state(self) -> "dict[str, Tensor]":
        """Tensors by name."""
        from safetensors.torch import load_file

        return load_file(self.folder / "weights.safetensors")

    def config(self) -> dict[str, Any]:
        """Family, recipe, and what training says of itself."""
        return read_json(self.folder / "config.json")


@dataclass(frozen=True)
class FinetunedModel:
    """A classifier that was fine-tuned once a seed. Files: `config.json`, and a checkpoint in each `seed_<n>`."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """What all seeds have in common, and the epoch that was chosen for each."""
        return read_json(self.folder / "config.json")

    def checkpoints(self) -> dict[int, Checkpoint]:
        """The checkpoint of each seed, in the recipe's order."""
        return {seed: Checkpoint(seed_folder(self.folder, seed)) for seed in self.config()["finetuning"]["seeds"]}


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the checkpoint of one seed stands in a fine-tuned model's folder."""
    return folder / f"seed_{seed}"
