"""Checkpoints of D-BETA's authors, in and out."""

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ecg_pipeline.models.d_beta.network import ECG_PATH, DBetaModel
from ecg_pipeline.models.d_beta.recipes import DBetaRecipe
from ecg_pipeline.models.t5 import EMBEDDING, EMBEDDING_AGAIN, encoder_state
from ecg_pipeline.storage.files import write_atomically
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.weights import check_fit, read_weights, save_checkpoint

LICENCE = "CC BY-NC 4.0: non-commercial"
"""Of the authors' code and weights."""

MARK = "class_embedding"
"""A name that every file has: what stands before it is the prefix of all names."""

TEXT = "language_encoder."

UNUSED = "ecg_encoder.mask_emb"
"""A weight of the authors' files that no forward pass uses."""

WEIGHT_NORM = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
"""Names of a normalised weight's two parts, in PyTorch now and in the authors' files."""


def import_pretraining(file: Path, recipe: DBetaRecipe, out: Path) -> Checkpoint:
    """Take over a pretrained file of the authors' scripts, or the part of it that an ECG goes through alone.

    All names may have one prefix. What an ECG alone does not need may be absent, each part as a whole. Any other
    mismatch with the recipe is a ValueError that lists the keys. The config says what was left out.
    """
    state, left_out = own_names(read_weights(file), file.name)
    vocabulary = len(state[f"{TEXT}{EMBEDDING}"]) if f"{TEXT}{EMBEDDING}" in state else 1
    with torch.device("meta"):
        own: Mapping[str, Tensor] = DBetaModel(recipe, vocabulary=vocabulary).state_dict()
    present = {_part(name) for name in state}
    absent = [name for name in own if _part(name) not in present and not name.startswith(ECG_PATH)]
    check_fit(own, state=state, fresh=absent)
    config = {
        "model": asdict(recipe),
        "imported": file.name,
        "origin": f"pretrained elsewhere, imported from {file.name} ({LICENCE})",
        "licence": LICENCE,
        "leads": recipe.leads,
    }
    if left_out:
        config["left_out"] = left_out
    if absent:
        config["absent"] = sorted({_part(name) for name in absent})
    return save_checkpoint(out, state=state, config=config)


def export_pretraining(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a pretrained checkpoint as a torch file with the authors' names under `model`."""
    state = {}
    for name, tensor in checkpoint.state().items():
        for now, theirs in WEIGHT_NORM.items():
            name = name.replace(now, theirs)
        state[name] = tensor
        if name == f"{TEXT}{EMBEDDING}":
            state[f"{TEXT}{EMBEDDING_AGAIN}"] = tensor
    return write_atomically(path, lambda temporary: torch.save({"model": state}, temporary))


def own_names(state: Mapping[str, Tensor], file: str) -> tuple[dict[str, Tensor], list[str]]:
    """A state of the authors' under the names of `DBetaModel`, and the names of what was left out.

    file: its name, for messages. A state that is none of D-BETA's is a ValueError.
    """
    marks = [name for name in state if re.fullmatch(rf"(.+\.)?{MARK}", name)]
    if len(marks) != 1:
        raise ValueError(f"{file} has {len(marks)} weights named `{MARK}`, and must have one: is it D-BETA's?")
    prefix = marks[0].removesuffix(MARK)
    renamed: dict[str, Tensor] = {}
    for name, tensor in state.items():
        # A name without the prefix stays, to be refused as unexpected.
        name = name.removeprefix(prefix)
        for now, theirs in WEIGHT_NORM.items():
            name = re.sub(rf"\.{theirs}$", f".{now}", name)
        renamed[name] = tensor
    left_out = [UNUSED] if renamed.pop(UNUSED, None) is not None else []
    text = {name.removeprefix(TEXT): renamed.pop(name) for name in list(renamed) if name.startswith(TEXT)}
    if text:
        encoder = encoder_state(text)
        left_out += [f"{TEXT}{name}" for name in text if name not in encoder]
        renamed |= {f"{TEXT}{name}": tensor for name, tensor in encoder.items()}
    return renamed, left_out


def _part(name: str) -> str:
    """The part of the network that a weight belongs to: the beginning of its name."""
    return name.split(".")[0]
