"""Sizes of the blocks in `wav2vec2`, without the blocks: recipes are read where torch is not."""

from dataclasses import dataclass
from math import prod

from ecg_pipeline.ecg import RecipeError, check_positive


@dataclass(frozen=True)
class Dropouts:
    """Rates of dropout: residual branches and the transformer's input, attention weights, and inside the MLP."""

    residual: float = 0.0
    attention: float = 0.0
    activation: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Wav2Vec2Shape:
    """Sizes of an encoder.

    conv_widths, conv_kernels, conv_strides: of each layer of the extractor. mlp_width: hidden width of a layer's MLP.
    position_kernel, position_groups: of the positional convolution. pre_norm: layer norms begin the residual branches
    instead of following the sums.
    """

    leads: int
    conv_widths: tuple[int, ...]
    conv_kernels: tuple[int, ...]
    conv_strides: tuple[int, ...]
    conv_bias: bool = False
    width: int
    depth: int
    heads: int
    mlp_width: int
    position_kernel: int
    position_groups: int
    pre_norm: bool = False

    def check(self) -> None:
        """RecipeError if no such encoder can be built, at the key of these names in a recipe."""
        check_positive(self, "leads", "width", "depth", "heads", "mlp_width", "position_kernel", "position_groups")
        layers = ("conv_widths", "conv_kernels", "conv_strides")
        if not self.conv_widths or len({len(getattr(self, key)) for key in layers}) > 1:
            raise RecipeError(f"{', '.join(layers)} must have one number for each convolution", *layers)
        for key in layers:
            if min(getattr(self, key)) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if self.width % self.heads:
            raise RecipeError(f"width {self.width} does not divide into {self.heads} heads", "heads", "width")
        if self.width % self.position_groups:
            sentence = f"width {self.width} does not divide into {self.position_groups} groups"
            raise RecipeError(sentence, "position_groups", "width")

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    @property
    def samples_per_frame(self) -> int:
        """Distance of two frames in samples."""
        return prod(self.conv_strides)
