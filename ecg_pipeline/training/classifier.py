"""What a classifier offers to fine-tuning, scoring and explanation, whatever it reads."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """A network with its normalisation: examples of a view, as stored -> log-odds of each label.

    A family implements `normalise`, `encode`, `classify` and `stages`. A network with two logits a label gives their
    difference. Being part of the module, normalisation is the same in training and serving.
    blank: the value of an example without a signal, such as white paper or a flat line. rows: which rows of an example
    (L, T) the network's input has, where these are not all.
    """

    blank: float = 0.0
    rows: tuple[int, ...] | None = None

    def normalise(self, x: Tensor) -> Tensor:
        """A batch of stored examples (B, ...) -> the network's input, float32."""
        raise NotImplementedError

    def encode(self, x: Tensor) -> Tensor:
        """The network's input (B, ...) -> features (B, D)."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """Features (B, D) -> log-odds (B, K)."""
        raise NotImplementedError

    def output_layer(self) -> nn.Linear:
        """The linear layer that `classify` ends in, features (B, D) -> log-odds (B, K): by default, the attribute
        `head`. A linear probe sets its weights. A family whose last layer is another kind has no probe.
        """
        layer = getattr(self, "head", None)
        if not isinstance(layer, nn.Linear) or layer.bias is None:
            raise NotImplementedError(
                f"{type(self).__name__} has no linear layer with a bias as `head`: `output_layer` must return the "
                "layer that `classify` ends in, or the model can have no frozen arm"
            )
        return layer

    def stages(self) -> list[list[nn.Parameter]]:
        """All parameters, each once, in stages from the input to the head."""
        raise NotImplementedError

    def features(self, x: Tensor) -> Tensor:
        """A batch of stored examples (B, ...) -> features (B, D)."""
        return self.encode(self.normalise(x))

    def forward(self, x: Tensor) -> Tensor:
        """A batch of stored examples (B, ...) -> log-odds (B, K)."""
        return self.classify(self.features(x))
