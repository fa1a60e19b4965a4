"""The one interface of the model families: a classifier takes sheets as they are stored and gives logits.

Normalisation is part of the module, so what a model was trained on and what it is served cannot differ.
"""

from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ecg_pipeline.models import beit
from ecg_pipeline.models.beit import beit_classifier
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.comparators import comparator
from ecg_pipeline.models.recipes import RANDOM, BeitRecipe, ModelRecipe, TimmRecipe
from ecg_pipeline.models.weights import load_exactly

CLASSES = 2
FAMILIES = {"beit": BeitRecipe, "timm": TimmRecipe}


class Classifier(nn.Module):
    """Sheets (B, H, W) uint8, 255 = paper -> logits (B, 2)."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, sheets: Tensor) -> Tensor:
        """Logits of the negative and the positive class."""
        return self.network(normalised(sheets, self.mean, self.std))


def normalised(sheets: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(B, H, W) uint8 -> (B, 3, H, W) float: grey to three channels, to [0, 1], then (x - mean) / std."""
    grey = sheets[:, None].to(torch.float32) / 255
    return (grey - mean) / std


def build_classifier(recipe: ModelRecipe, start: Checkpoint | Path | None, seed: int) -> Classifier:
    """A classifier to fine-tune: from a pretrained checkpoint, from a published weights file, or from nothing.

    seed: draws whatever the starting point does not hold.
    """
    match recipe:
        case BeitRecipe():
            if isinstance(start, Path):
                raise TypeError("a BEiT starts from a Checkpoint: make one of the file with `beit.import_pretraining`")
            state = start.state() if start else None
            return Classifier(beit_classifier(recipe, state, CLASSES, seed), beit.MEAN, beit.STD)
        case TimmRecipe():
            if isinstance(start, Checkpoint):
                raise TypeError("a comparator starts from a weights file")
            return Classifier(comparator(recipe, start, CLASSES, seed), recipe.mean, recipe.std)


def classifier_config(recipe: ModelRecipe, start: Checkpoint | Path | None) -> dict[str, object]:
    """What a checkpoint of this classifier must say, for `load_classifier` and for every table."""
    return {"model": asdict(recipe), "initialisation": initialisation(start)}


def load_classifier(checkpoint: Checkpoint) -> Classifier:
    """The classifier of a checkpoint, ready to score; its logits equal those of the module that was saved."""
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
