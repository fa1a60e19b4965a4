"""Checkpoints of ECG-FM's authors, in and out."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ecg_pipeline.models.ecg_fm.network import HEADS, EcgFmModel
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline.storage.files import write_atomically
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.weights import check_fit, read_weights, save_checkpoint

ENCODER, HEAD = "encoder.", "proj."
"""Beginnings of the names in a fine-tuned file: of the pretrained network, and of the classifier's last layer."""


def import_pretraining(file: Path, recipe: EcgFmRecipe, out: Path) -> Checkpoint:
    """Import a pretrained or a fine-tuned file of the authors' scripts, to fine-tune from.

    Of a fine-tuned file the last layer is left out. What only pretraining needs (mask embedding, quantiser and its
    projections) may be absent, each as a whole. Any other mismatch with the recipe is a ValueError that lists the keys.
    """
    state = read_weights(file)
    is_finetuned = any(name.startswith(f"{ENCODER}feature_extractor.") for name in state)
    if is_finetuned:
        # A name without the prefix is of no such file: it stays, to be refused as unexpected.
        state = {name.removeprefix(ENCODER): t for name, t in state.items() if not name.startswith(HEAD)}
    with torch.device("meta"):
        own: Mapping[str, Tensor] = EcgFmModel(recipe, EcgFmPretraining()).state_dict()
    absent = tuple(part for part in HEADS if not any(name.startswith(part) for name in state))
    check_fit(own, state=state, fresh=[name for name in own if name.startswith(absent)])
    kind = "fine-tuned elsewhere" if is_finetuned else "pretrained elsewhere"
    config = {"model": asdict(recipe), "imported": file.name, "origin": f"{kind}, imported from {file.name}"}
    if is_finetuned:
        config["sees"] = "ECGs, labels"
    return save_checkpoint(out, state=state, config=config)


def export_pretraining(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a pretrained checkpoint as a torch file with the authors' names under `model`."""
    return write_atomically(path, lambda temporary: torch.save({"model": checkpoint.state()}, temporary))
