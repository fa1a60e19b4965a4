"""The encoder of DALL-E's discrete VAE (OpenAI), with its official parameter names.

No normalisation layers and no strided convolutions: max-pooling halves the resolution. Convolutions have parameters `w`
and `b`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d

GROUPS = 4


@dataclass(frozen=True)
class DalleShape:
    """Sizes of the network; the defaults are the released model's."""

    hidden: int = 256
    blocks_per_group: int = 2
    vocabulary: int = 8192
    channels: int = 3

    @property
    def residual_scale(self) -> float:
        """Factor of each residual branch."""
        return 1 / (GROUPS * self.blocks_per_group) ** 2


class Conv(nn.Module):
    """A convolution with "same" padding."""

    def __init__(self, inputs: int, outputs: int, kernel: int):
        super().__init__()
        self.w = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel) / (inputs * kernel**2) ** 0.5)
        self.b = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return conv2d(x, self.w, self.b, padding=(self.w.shape[-1] - 1) // 2)


class Block(nn.Module):
    """A residual block: id(x) + scale * f(x), f four convolutions, each after a ReLU."""

    def __init__(self, inputs: int, outputs: int, *, kernels: tuple[int, ...], scale: float):
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
            made = _group(widths[group], widths[group + 1], kernels=(3, 3, 3, 1), shape=shape, last=last)
            self.blocks.add_module(f"group_{group + 1}", made)
        self.blocks.add_module("output", _output(8 * h, shape.vocabulary))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.blocks(x)


def encoder_shape(state: dict[str, Tensor]) -> DalleShape:
    """The sizes of an encoder, read from its weights. Without the first or the last layer: ValueError."""
    missing = [name for name in ("blocks.input.w", "blocks.output.conv.w") if name not in state]
    if missing:
        raise ValueError(f"these are not the weights of DALL-E's encoder: missing {', '.join(missing)}")
    blocks = sum(name.startswith("blocks.group_1.block_") and name.endswith("conv_1.w") for name in state)
    hidden, channels = state["blocks.input.w"].shape[:2]
    return DalleShape(hidden, blocks, state["blocks.output.conv.w"].shape[0], channels)


def _group(
    inputs: int, outputs: int, *, kernels: tuple[int, ...], shape: DalleShape, last: nn.Module | None
) -> nn.Sequential:
    made = nn.Sequential()
    for number in range(shape.blocks_per_group):
        block = Block(outputs if number else inputs, outputs, kernels=kernels, scale=shape.residual_scale)
        made.add_module(f"block_{number + 1}", block)
    if last is not None:
        made.add_module("resize", last)
    return made


def _output(inputs: int, outputs: int) -> nn.Sequential:
    made = nn.Sequential()
    made.add_module("relu", nn.ReLU())
    made.add_module("conv", Conv(inputs, outputs, 1))
    return made
