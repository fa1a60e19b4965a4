"""timm's networks as classifiers of ECG images."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.family import UNKNOWN_LICENCE
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.models.normalisation import WHITE, normalise
from ecg_pipeline.models.stages import stages_of_timm
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.weights import load_exactly


class Comparator(Classifier):
    """Images (B, H, W) uint8, 255 = paper -> log-odds (B, 1).

    mean, std: (3,) normalisation of the channels; they move with the module but are not part of its state.
    start: a state of the network, whose head may have other classes, or None for random weights.
    """

    blank = WHITE
    mean: Tensor
    std: Tensor

    def __init__(self, recipe: TimmRecipe, start: Mapping[str, Tensor] | None, *, seed: int):
        super().__init__()
        network: Any = comparator(recipe, start, outputs=1, seed=seed)
        if not isinstance(heads := network.get_classifier(), nn.Module):
            raise ValueError(f"timm's `{recipe.name}` has {len(heads)} heads: choose a network with one")
        # On one CPU thread a small convolutional network takes 1.5 times as long in PyTorch's default layout.
        self.network = network.to(memory_format=torch.channels_last)
        self.average_px = recipe.average_px
        self.register_buffer("mean", torch.tensor(recipe.mean), persistent=False)
        self.register_buffer("std", torch.tensor(recipe.std), persistent=False)

    def normalise(self, x: Tensor) -> Tensor:
        """(B, H, W) uint8 -> (B, 3, H, W), normalised as the weights were trained."""
        return normalise(x, mean=self.mean, std=self.std)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), pooled."""
        x = avg_pool2d(x, self.average_px)
        return self.network.forward_head(self.network.forward_features(x), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, 1)."""
        return self.network.get_classifier()(features)

    def output_layer(self) -> nn.Linear:
        """The network's last layer; one that is not linear is a NotImplementedError."""
        if not isinstance(layer := self.network.get_classifier(), nn.Linear):
            raise NotImplementedError(f"the network's last layer is a {type(layer).__name__}: it can have no probe")
        return layer

    def stages(self) -> list[list[nn.Parameter]]:
        """As timm lists them."""
        return stages_of_timm(self.network)


def comparator(recipe: TimmRecipe, start: Mapping[str, Tensor] | None, *, outputs: int, seed: int) -> nn.Module:
    """A timm network with `outputs` outputs, from a state or randomly initialised by `seed`.

    The state's last layer is dropped if its number of classes differs. Any other mismatch, or a name that is not in
    timm's registry, is a ValueError.
    """
    if not timm.is_model(recipe.name):
        raise ValueError(f"timm has no model `{recipe.name}`; `timm.list_models()` lists them")
    size_px = tuple(recipe.image_px // side for side in recipe.average_px)
    config = timm.get_pretrained_cfg(recipe.name)
    size: dict[str, Any] = {"img_size": size_px} if config and config.fixed_input_size else {}
    with seeded(seed):
        model = timm.create_model(recipe.name, pretrained=False, num_classes=outputs, **size)
    if start is not None:
        load_exactly(model, *_without_other_classes(model, start))
    return model


def stated_licence(name: str) -> str:
    """The licence that timm states of its weights for a network; a local file may hold others."""
    config = timm.get_pretrained_cfg(name)
    if config is None or config.tag == "untrained" or config.license in (None, UNKNOWN_LICENCE):
        return UNKNOWN_LICENCE
    return f"{config.license}, if the file is timm's {config.architecture}.{config.tag}"


def _without_other_classes(model: nn.Module, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors of a state that the model loads, and the names of its last layer, which may be missing.

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
