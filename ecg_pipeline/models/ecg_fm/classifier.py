"""ECG-FM as a classifier: a linear layer on the mean over frames."""

from collections.abc import Mapping

from torch import Tensor, nn

from ecg_pipeline.models.ecg_fm.contrast import mean_over_time
from ecg_pipeline.models.ecg_fm.network import HEADS
from ecg_pipeline.models.ecg_fm.recipes import EcgFmRecipe
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.models.wav2vec2 import WaveformEncoder
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.weights import load_exactly


class EcgFmClassifier(Classifier):
    """Standardised segments (B, L, T) float32 -> log-odds (B, K). The names of its weights are those of the authors."""

    blank = 0.0

    def __init__(self, recipe: EcgFmRecipe, *, labels: int = 1):
        super().__init__()
        self.encoder = WaveformEncoder(recipe.shape, recipe.dropouts)
        self.encoder.feature_extractor.requires_grad_(recipe.train_convolutions)
        self.proj = nn.Linear(recipe.width, labels)
        nn.init.xavier_uniform_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def normalise(self, x: Tensor) -> Tensor:
        """As the segments are: they were standardised with their whole recording."""
        return x

    def encode(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """(B, L, T) -> (B, D): the mean over frames. padding: (B, frames) bool, frames that do not count."""
        frames = self.encoder.encode(x, padding)
        return mean_over_time(frames if padding is None else frames.masked_fill(padding[..., None], 0))

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.proj(features)

    def output_layer(self) -> nn.Linear:
        """The linear layer on the mean over frames."""
        return self.proj

    def stages(self) -> list[list[nn.Parameter]]:
        """Extractor, projection with position, one stage a layer, head."""
        return [*self.encoder.stages(), list(self.proj.parameters())]


def ecg_fm_classifier(
    recipe: EcgFmRecipe, start: Mapping[str, Tensor] | None, *, seed: int, labels: int = 1
) -> EcgFmClassifier:
    """A classifier from a pretraining state, of which the encoder is used, or with random weights by `seed`."""
    with seeded(seed):
        classifier = EcgFmClassifier(recipe, labels=labels)
    if start is not None:
        load_exactly(classifier.encoder, {k: tensor for k, tensor in start.items() if not k.startswith(HEADS)})
    return classifier
