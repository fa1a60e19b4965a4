"""Weights files of ECGFounder's authors: taken over, and written for their scripts."""

from dataclasses import asdict
from pathlib import Path

import torch

from ecg_pipeline.models.ecgfounder.network import Net1D
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline.statements import statement_names
from ecg_pipeline.storage.files import write_atomically
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.weights import check_fit, read_weights, save_checkpoint


def import_released(file: Path, recipe: EcgFounderRecipe, out: Path) -> Checkpoint:
    """Take over a file of ECGFounder's weights, with its last layer.

    The config names the labels if there are as many as in the released files. A file that does not fit the recipe is a
    ValueError that lists the keys.
    """
    state = read_weights(file)
    if "dense.weight" not in state:
        raise ValueError(f"{file.name} has no `dense.weight`: it holds no network of ECGFounder's")
    count = len(state["dense.weight"])
    with torch.device("meta"):
        network = Net1D(recipe, count)
    check_fit(network.state_dict(), state=state)
    config = {
        "model": asdict(recipe),
        "imported": file.name,
        "origin": f"published weights {file.name} of PKUDigitalHealth/ECGFounder (MIT licence)",
    }
    if count == len(labels := statement_names()):
        config["labels"] = list(labels)
    return save_checkpoint(out, state=state, config=config)


def export_released(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a pretrained checkpoint as a file that the authors' scripts load."""
    state = checkpoint.state()
    return write_atomically(path, lambda temporary: torch.save({"state_dict": state}, temporary))
