"""Frozen encoders: which network computes the features that the linear probe of a seed is fitted to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ecg_pipeline.models.family import ModelRecipe
from ecg_pipeline.models.load import build_classifier
from ecg_pipeline.training.checkpoints import Checkpoint, PretrainedModel

if TYPE_CHECKING:
    from ecg_pipeline.training.classifier import Classifier


@dataclass(frozen=True)
class Encoder:
    """A frozen network. name: of its features. start, seed: what its classifier is built from; without a start, the
    weights are random."""

    name: str
    start: Checkpoint | None
    seed: int

    def classifier(self, recipe: ModelRecipe) -> "Classifier":
        """The network, with an output layer that a probe replaces."""
        return build_classifier(recipe, self.start, seed=self.seed)


def encoder_of(start: PretrainedModel | None, seed: int) -> Encoder:
    """The encoder of a seed of fine-tuning: pretrained with this seed, or the only pretrained one; or a random one.

    Weights that a pretrained checkpoint lacks are drawn with the seed that it was pretrained with.
    """
    if start is None:
        return Encoder(f"random/seed_{seed}", None, seed)
    checkpoint = start.start(seed)
    return Encoder(f"pretrained/{checkpoint.folder.name}", checkpoint, checkpoint.config().get("seed", 0))
