"""ECGFounder as a classifier."""

from collections.abc import Mapping

from torch import Tensor, nn

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.models.ecgfounder.lead_one import lead_one
from ecg_pipeline.models.ecgfounder.network import Block, net1d
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.weights import load_exactly

HEAD = ("dense.weight", "dense.bias")
"""Official names of the last layer, which a new task replaces."""


class EcgFounderClassifier(Classifier):
    """Waveform windows (B, 12, T) float32 -> log-odds (B, 1).

    start: an official state, whose last layer is not used, or None for random weights.
    """

    blank = 0.0

    def __init__(self, recipe: EcgFounderRecipe, start: Mapping[str, Tensor] | None, *, seed: int):
        super().__init__()
        self.leads = recipe.leads
        if recipe.leads == 1:
            self.rows = (LEADS.index("I"),)
        self.network = net1d(recipe, labels=1, seed=seed)
        if start is not None:
            body = {name: tensor for name, tensor in start.items() if name not in HEAD}
            load_exactly(self.network, body, fresh=HEAD)

    def normalise(self, x: Tensor) -> Tensor:
        """As the windows are, or (B, 12, T) -> (B, 1, T), lead I standardised by itself."""
        return x if self.leads == 12 else lead_one(x)

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, D)."""
        return self.network.features(x)

    def classify(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, 1)."""
        return self.network.dense(features)

    def output_layer(self) -> nn.Linear:
        """The network's last layer."""
        return self.network.dense

    def stages(self) -> list[list[nn.Parameter]]:
        """First convolution, one stage a block, head."""
        network = self.network
        blocks = [module for module in network.modules() if isinstance(module, Block)]
        stem = [*network.first_conv.parameters(), *network.first_bn.parameters()]
        return [stem, *(list(module.parameters()) for module in (*blocks, network.dense))]
