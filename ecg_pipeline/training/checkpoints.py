"""Checkpoints: weights as safetensors beside a config."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_pipeline.storage.files import read_json

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Checkpoint:
    """The weights of a network and the config that describes it. Files: `weights.safetensors`, `config.json`."""

    folder: Path

    def state(self) -> "dict[str, Tensor]":
        """Tensors by name."""
        from safetensors.torch import load_file

        return load_file(self.folder / "weights.safetensors")

    def config(self) -> dict[str, Any]:
        """The model's recipe, and facts about its training."""
        return read_json(self.folder / "config.json")


@dataclass(frozen=True)
class FinetunedModel:
    """A classifier fine-tuned once per seed. Files: `config.json`, and a checkpoint in each `seed_<n>`."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """What all seeds have in common, and the chosen epoch of each."""
        return read_json(self.folder / "config.json")

    def checkpoints(self) -> dict[int, Checkpoint]:
        """The checkpoint of each seed, in the recipe's order."""
        return {seed: Checkpoint(seed_folder(self.folder, seed)) for seed in self.config()["finetuning"]["seeds"]}


def seed_folder(folder: Path, seed: int) -> Path:
    """Folder of one seed's checkpoint in that of a fine-tuned model."""
    return folder / f"seed_{seed}"
