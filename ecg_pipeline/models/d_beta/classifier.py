"""D-BETA as a classifier of ECGs: a linear layer on the vector of an ECG."""

from collections.abc import Mapping

from torch import Tensor, nn

from ecg_pipeline.models.d_beta.fusion import initialise
from ecg_pipeline.models.d_beta.network import ECG_PATH, EcgPath
from ecg_pipeline.models.d_beta.recipes import DBetaRecipe
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.weights import load_exactly


class DBetaClassifier(Classifier):
    """Windows (B, 12, T) float32 in millivolts -> log-odds (B, 1)."""

    blank = 0.0

    def __init__(self, recipe: DBetaRecipe):
        super().__init__()
        self.rows = recipe.rows
        self.network = EcgPath(recipe, rate=recipe.dropout)
        self.head = nn.Linear(recipe.joint_width, 1)
        initialise(self.head, std=recipe.initial_std)

    def normalise(self, x: Tensor) -> Tensor:
        """Millivolts as they are, with the leads in the network's order."""
        return x if self.rows is None else x[:, list(self.rows)]

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, H), between -1 and 1."""
        return self.network.ecg_vectors(x)

    def classify(self, features: Tensor) -> Tensor:
        """(B, H) -> (B, 1)."""
        return self.head(features)

    def stages(self) -> list[list[nn.Parameter]]:
        """Convolutions, projection with position and class token, one stage a layer, pooler, head."""
        network = self.network
        convolutions, located, *layers = network.ecg_encoder.stages()
        pooler = [*network.multi_modal_ecg_proj.parameters(), *network.unimodal_ecg_pooler.parameters()]
        head = list(self.head.parameters())
        return [convolutions, [*located, network.class_embedding], *layers, pooler, head]


def d_beta_classifier(recipe: DBetaRecipe, start: Mapping[str, Tensor] | None, *, seed: int) -> DBetaClassifier:
    """A classifier from a pretraining state, of which the ECG's path is used, or with random weights by `seed`."""
    with seeded(seed):
        classifier = DBetaClassifier(recipe)
    if start is not None:
        load_exactly(classifier.network, {name: tensor for name, tensor in start.items() if name.startswith(ECG_PATH)})
    return classifier
