"""The encoder and decoder of OpenAI's discrete VAE, DALL-E's, under their official parameter names.

No normalisation, no strided convolution: down by max-pooling, up by repetition. Every convolution keeps `w` and `b`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, interpolate, max_pool2d

GROUPS = 4


@dataclass(frozen=True)
class DalleShape:
    """Sizes of the networks; the defaults are the released model's."""

    hidden: int = 256
    blocks_a_group: int = 2
    vocabulary: int = 8192
    channels: int = 3
    code_width: int = 128
    outputs: int = 6

    @property
    def residual_scale(self) -> float:
        """What each residual branch is multiplied by."""
        return 1 / (GROUPS * self.blocks_a_group) ** 2


class Conv(nn.Module):
    """A convolution that keeps the size of its input."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5)
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class Block(nn.Module):
    """id(x) + scale * f(x), f four convolutions each behind a ReLU."""

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...], scale: float):
        super().__init__()
        self.scale = scale
        self.id_path = Conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        widths = (inputs, *(outputs // 4,) * (len(kernels) - 1), outputs)
        self.res_path = nn.Sequential()
        for number, kernel in enumerate(kernels):
            self.res_path.add_module(f"relu_{number + 1}", nn.ReLU())
            self.res_path.add_module(f"conv_{number + 1}", Conv(widths[number], widths[number + 1], kernel))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return self.id_path(x) + self.scale * self.res_path(x)


class _Halve(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(x, 2)


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return interpolate(x, scale_factor=2, mode="nearest")


class DalleEncoder(nn.Module):
    """Pixels (B, 3, S, S) in [0.1, 0.9] -> logits (B, V, S/8, S/8)."""

    def __init__(self, shape: DalleShape):
        super().__init__()
        h = shape.hidden
        self.blocks = nn.Sequential()
        self.blocks.add_module("input", Conv(shape.channels, h, 7))
        widths = (h, h, 2 * h, 4 * h, 8 * h)
        for group in range(GROUPS):
            last = _Halve() if group < GROUPS - 1 else None
            self.blocks.add_module(f"group_{group + 1}", _group(widths, group, (3, 3, 3, 1), shape, last))
        self.blocks.add_module("output", _output(8 * h, shape.vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.blocks(x)


class DalleDecoder(nn.Module):
    """Codes (B, V, H, W), one-hot or soft -> (B, 6, 8 H, 8 W): location and log scale of a logit-Laplace a channel."""

    def __init__(self, shape: DalleShape):
        super().__init__()
        h = shape.hidden
        self.blocks = nn.Sequential()
        self.blocks.add_module("input", Conv(shape.vocabulary, shape.code_width, 1))
        widths = (shape.code_width, 8 * h, 4 * h, 2 * h, h)
        for group in range(GROUPS):
            last = _Double() if group < GROUPS - 1 else None
            self.blocks.add_module(f"group_{group + 1}", _group(widths, group, (1, 3, 3, 3), shape, last))
        self.blocks.add_module("output", _output(h, shape.outputs))

    def forward(self, codes: Tensor) -> Tensor:
        """The statistics."""
        return self.blocks(codes)


def encoder_shape(state: dict[str, Tensor]) -> DalleShape:
    """The sizes that an encoder's weights have. ValueError if the first or the last layer is not there."""
    missing = [name for name in ("blocks.input.w", "blocks.output.conv.w") if name not in state]
    if missing:
        raise ValueError(f"these are not the weights of DALL-E's encoder: missing {', '.join(missing)}")
    blocks = sum(name.startswith("blocks.group_1.block_") and name.endswith("conv_1.w") for name in state)
    hidden, channels = state["blocks.input.w"].shape[:2]
    return DalleShape(hidden, blocks, state["blocks.output.conv.w"].shape[0], channels)


def _group(
    widths: tuple[int, ...], group: int, kernels: tuple[int, ...], shape: DalleShape, last: nn.Module | None
) -> nn.Sequential:
    made = nn.Sequential()
    for block in range(shape.blocks_a_group):
        inputs = widths[group] if block == 0 else widths[group + 1]
        made.add_module(f"block_{block + 1}", Block(inputs, widths[group + 1], kernels, shape.residual_scale))
    if last is not None:
        made.add_module("resize", last)
    return made


def _output(inputs: int, outputs: int) -> nn.Sequential:
    made = nn.Sequential()
    made.add_module("relu", nn.ReLU())
    made.add_module("conv", Conv(inputs, outputs, 1))
    return made
