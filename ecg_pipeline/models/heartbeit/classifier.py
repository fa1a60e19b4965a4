"""HeartBEiT as a classifier (paper: Fine-tuning)."""

from collections.abc import Mapping

from timm.models.beit import Beit
from torch import Tensor, nn

from ecg_pipeline.models.heartbeit.beit import MEAN, STD, beit_classifier
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.normalisation import WHITE, normalise
from ecg_pipeline.models.stages import stages_of_timm
from ecg_pipeline.training.classifier import Classifier


class HeartBeitClassifier(Classifier):
    """Images (B, H, W) uint8, 255 = paper -> log-odds (B, 1), from the mean of the patch tokens.

    start: an official pretraining state, or None for random weights.
    """

    blank = WHITE

    def __init__(self, recipe: HeartBeitRecipe, start: Mapping[str, Tensor] | None, *, seed: int):
        super().__init__()
        self.network: Beit = beit_classifier(recipe, start, classes=1, seed=seed)

    def normalise(self, x: Tensor) -> Tensor:
        """(B, H, W) uint8 -> (B, 3, H, W) in [-1, 1]."""
        return normalise(x, mean=MEAN, std=STD)

    def encode(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, D), normalised."""
        return self.network.forward_head(self.network.forward_features(x), pre_logits=True)

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, 1)."""
        return self.network.head(features)

    def output_layer(self) -> nn.Linear:
        """The BEiT's head."""
        return self.network.head  # type: ignore[return-value]

    def stages(self) -> list[list[nn.Parameter]]:
        """Patch embedding, one stage a block, head."""
        return stages_of_timm(self.network)
