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
class PretrainedModel:
    """A network pretrained once per seed, or taken over from a published file. Files: `config.json`, and a checkpoint
    in each folder that it lists."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """What all checkpoints have in common; under `checkpoints` the names of their folders."""
        return read_json(self.folder / "config.json")

    def checkpoints(self) -> list[Checkpoint]:
        """All checkpoints, in the recipe's order of seeds."""
        return [Checkpoint(self.folder / name) for name in self.config()["checkpoints"]]

    def start(self, seed: int) -> Checkpoint:
        """The checkpoint that fine-tuning with a seed starts from: that of the same seed, or the only one."""
        found = self.checkpoints()
        if len(found) == 1:
            return found[0]
        of_seed = seed_folder(self.folder, seed)
        if Checkpoint(of_seed) not in found:
            raise ValueError(f"{self.folder} has several pretrained networks, but none of seed {seed}")
        return Checkpoint(of_seed)


@dataclass(frozen=True)
class FinetunedModel:
    """A classifier fine-tuned, or a linear probe fitted, once per seed. Files: `config.json`, and a checkpoint in each
    `seed_<n>`; none where there was nothing to learn from, which the config says."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """What all seeds have in common, and what was chosen for each."""
        return read_json(self.folder / "config.json")

    def chosen(self) -> dict[str, list[float]]:
        """What was chosen for each seed, under its name in the config: the epochs, or the C of linear probes."""
        return {name: values for name, values in self.config().items() if name in ("chosen_epochs", "chosen_cs")}

    @property
    def not_trained(self) -> str | None:
        """Why nothing was trained, or None: a fraction whose training ECGs all have the same label trains no model."""
        return self.config().get("not_trained")

    def seeds(self) -> list[int]:
        """The recipe's seeds."""
        return self.config()["finetuning"]["seeds"]

    def checkpoints(self) -> dict[int, Checkpoint]:
        """The checkpoint of each seed, in the recipe's order; empty if nothing was trained."""
        if self.not_trained:
            return {}
        return {seed: Checkpoint(seed_folder(self.folder, seed)) for seed in self.seeds()}


COST = ("parameters", "flops")
"""What a config states of the cost of training one seed: `training.cost.step_cost`."""

PUBLISHED = "published"
"""Folder of the checkpoint that was taken over from a published file, in that of its pretrained model."""


def seed_folder(folder: Path, seed: int) -> Path:
    """Folder of one seed's checkpoint in that of a model."""
    return folder / f"seed_{seed}"
