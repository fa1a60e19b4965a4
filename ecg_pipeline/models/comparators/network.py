"""The networks that HeartBEiT is compared with: any of timm's."""

from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.models.weights import load_exactly, read_weights


def comparator(recipe: TimmRecipe, weights: Path | None, *, classes: int, seed: int) -> nn.Module:
    """A timm network with `classes` outputs, from a local weights file or randomly initialised by `seed`.

    The file's last layer is dropped if its number of classes differs. Any other mismatch, or a name that is not in
    timm's registry, is a ValueError.
    """
    if not timm.is_model(recipe.name):
        raise ValueError(f"timm has no model `{recipe.name}`; `timm.list_models()` lists them")
    config = timm.get_pretrained_cfg(recipe.name)
    size: dict[str, Any] = {"img_size": recipe.image_px} if config and config.fixed_input_size else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(recipe.name, pretrained=False, num_classes=classes, **size)
    if weights is not None:
        load_exactly(model, *_without_other_classes(model, read_weights(weights)))
    return model


def _without_other_classes(model: nn.Module, state: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a weights file that the model loads, and the names of its last layer, which may be missing.

    Left out: buffers that the model computes itself, and a last layer of another shape.
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
