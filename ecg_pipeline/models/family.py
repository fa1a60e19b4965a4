"""The interface of the model families: a classifier maps stored images (uint8) to logits.

Normalisation is part of the module, so it is the same in training and serving.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ecg_pipeline.models.beit import MEAN, STD, beit_classifier
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.comparators import comparator
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.models.recipes import RANDOM, BeitRecipe, ModelRecipe, TimmRecipe
from ecg_pipeline.models.weights import load_exactly

CLASSES = 2
FAMILIES = {"beit": BeitRecipe, "timm": TimmRecipe}
"""Recipe by the name of its family."""


class Classifier(nn.Module):
    """Images (B, H, W) uint8, 255 = paper -> logits (B, 2).

    mean, std: (3,) normalisation of the channels; they move with the module but are not part of its state.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("std", torch.tensor(std), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the negative and the positive class."""
        return self.network(normalise(images, mean=self.mean, std=self.std))


def build_classifier(recipe: ModelRecipe, start: Checkpoint | Path | None, seed: int) -> Classifier:
    """A classifier to fine-tune.

    start: a pretrained checkpoint (BEiT), a published weights file (timm), or None for random initialisation. seed: for
    the weights that `start` does not have. A start of the wrong kind is a TypeError.
    """
    match recipe:
        case BeitRecipe():
            if isinstance(start, Path):
                raise TypeError("a BEiT starts from a Checkpoint: import the file with `beit.import_pretraining`")
            state = start.state() if start else None
            return Classifier(beit_classifier(recipe, state, classes=CLASSES, seed=seed), mean=MEAN, std=STD)
        case TimmRecipe():
            if isinstance(start, Checkpoint):
                raise TypeError("a comparator starts from a weights file")
            network = comparator(recipe, start, classes=CLASSES, seed=seed)
            # On one CPU thread a small convolutional network takes 1.5 times as long in PyTorch's default layout.
            return Classifier(network.to(memory_format=torch.channels_last), mean=recipe.mean, std=recipe.std)


def classifier_config(recipe: ModelRecipe, start: Checkpoint | Path | None) -> dict[str, object]:
    """The config of a classifier's checkpoint: its recipe, which `load_classifier` reads, and where it started from."""
    return {"model": asdict(recipe), "initialisation": initialisation(start)}


def load_classifier(checkpoint: Checkpoint) -> Classifier:
    """Load the classifier of a checkpoint, in eval mode. An unknown family is a ValueError."""
    values = dict(checkpoint.config()["model"])
    kind = FAMILIES.get(values["family"])
    if kind is None:
        raise ValueError(f"{checkpoint.folder}: no family `{values['family']}`; there are {', '.join(FAMILIES)}")
    recipe = kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
    classifier = build_classifier(recipe, None, seed=0)
    load_exactly(classifier, checkpoint.state())
    return classifier.eval()


def initialisation(start: Checkpoint | Path | None) -> str:
    """Where a model's weights came from, in words for a table."""
    if start is None:
        return RANDOM
    if isinstance(start, Path):
        return f"published weights {start.name}"
    imported = start.config().get("imported")
    return f"masked image modelling, imported from {imported}" if imported else "masked image modelling"
