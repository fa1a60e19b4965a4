"""The networks that HeartBEiT is compared with: any of timm's, with two outputs."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.models.weights import load_exactly, read_weights


def comparator(recipe: TimmRecipe, weights: Path | None, classes: int, seed: int) -> nn.Module:
    """A timm network, from a local weights file or randomly initialised by `seed`.

    The file's last layer is dropped where it names other classes; anything else that does not fit is an error, as is
    a name that timm's registry does not hold.
    """
    if not timm.is_model(recipe.name):
        raise ValueError(f"timm has no model `{recipe.name}`; `timm.list_models()` says which there are")
    config = timm.get_pretrained_cfg(recipe.name)
    size: dict[str, Any] = {"img_size": recipe.image_px} if config and config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(recipe.name, pretrained=False, num_classes=classes, **size)
    if weights is not None:
        load_exactly(model, *_without_other_classes(model, read_weights(weights)))
    return model


def _without_other_classes(model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """What of a weights file the model takes, and the names of its last layer, which may stay as drawn.

    Buffers that the model computes by itself, and some files hold, are left out.
    """
    own = model.state_dict()
    computed = {name for name, _ in model.named_buffers()} - own.keys()
    layers = model.default_cfg["classifier"]  # type: ignore[index]
    layers = (layers,) if isinstance(layers, str) else tuple(layers)
    head = [name for name in own if name.startswith(tuple(f"{layer}." for layer in layers))]
    return {
        name: tensor
        for name, tensor in state.items()
        if name not in computed and (name not in head or tensor.shape == own[name].shape)
    }, head
