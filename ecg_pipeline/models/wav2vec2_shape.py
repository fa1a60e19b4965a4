"""Sizes of the blocks in `wav2vec2`, without the blocks: recipes are read where torch is not."""

from dataclasses import dataclass
from math import prod


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

    def frames(self, samples: int) -> int:
        """Number of frames of so many samples."""
        for kernel, stride in zip(self.conv_kernels, self.conv_strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples

    @property
    def samples_per_frame(self) -> int:
        """Distance of two frames in samples."""
        return prod(self.conv_strides)
