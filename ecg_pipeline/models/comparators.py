"""The networks that HeartBEiT is compared with: any of timm's, with two outputs."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from ecg_pipeline.models.checkpoints import load_exactly, read_weights
from ecg_pipeline.models.recipes import TimmRecipe


def comparator(recipe: TimmRecipe, weights: Path | None, classes: int, seed: int) -> nn.Module:
    """A timm network, from a local weights file or randomly initialised by `seed`.

    The file's last layer is dropped where it names other classes; anything else that does not fit is an error.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(recipe.name, pretrained=False, num_classes=classes)
    if weights is not None:
        state, own = read_weights(weights), model.state_dict()
        head = [name for name in own if name.startswith(f"{_head_name(model)}.")]
        kept = {name: t for name, t in state.items() if name not in head or t.shape == own[name].shape}
        load_exactly(model, kept, fresh=head)
    return model


def _head_name(model: nn.Module) -> str:
    """The name under which timm keeps a network's last layer."""
    settings: Any = model.default_cfg
    name = settings["classifier"]
    return name if isinstance(name, str) else name[0]
