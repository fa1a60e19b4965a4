"""Net1D, the network of ECGFounder (released code: net1d.py): a 1D residual network of grouped convolutions and gates.

Module names are the authors', so that `state_dict()` is the official layout.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, dropout, max_pool1d, pad, silu

from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline.models.initialisation import seeded


class SameConv(nn.Module):
    """A convolution that is padded with zeros to ceil(T / stride) samples; an odd zero goes to the right.

    (B, C, T) -> (B, width, ceil(T / stride)).
    """

    def __init__(self, channels: int, width: int, *, kernel: int = 1, stride: int = 1, groups: int = 1):
        super().__init__()
        self.conv = nn.Conv1d(channels, width, kernel, stride, groups=groups)
        self.kernel, self.stride, self.groups = kernel, stride, groups

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, width, ceil(T / stride))."""
        samples, weight = x.shape[-1], self.conv.weight
        total = max(0, (-(-samples // self.stride) - 1) * self.stride + self.kernel - samples)
        if total % 2:
            # With a zero before the kernel, padding is the same on both sides, and the samples are not copied.
            weight = pad(weight, (1, 0))
        return conv1d(x, weight, self.conv.bias, self.stride, padding=(total + 1) // 2, groups=self.groups)


def halve(x: Tensor, stride: int) -> Tensor:
    """Maximum of every `stride` samples: (B, C, T) -> (B, C, .).

    Before it, `stride - 1` zeros are added whatever T is, the odd one on the right: they take part in the maximum.
    """
    left = (stride - 1) // 2
    if left == 0 and x.shape[-1] % stride == 0:
        return max_pool1d(x, stride)  # the zeros would be dropped
    return max_pool1d(pad(x, (left, stride - 1 - left)), stride)


class Block(nn.Module):
    """Activation before each of three convolutions, a gate a channel, and a shortcut without weights.

    is_first: whether it is the first one of the network, which has no activation before its first convolution.
    """

    def __init__(self, recipe: EcgFounderRecipe, channels: int, width: int, *, stride: int = 1, is_first: bool = False):
        super().__init__()
        self.stride, self.is_first = stride, is_first
        self.use_bn, self.dropout = recipe.use_bn, recipe.dropout
        middle, groups = recipe.middle(width), recipe.groups(width)
        self.before, self.after = (width - channels) // 2, -(-(width - channels) // 2)
        self.bn1 = nn.BatchNorm1d(channels)
        self.conv1 = SameConv(channels, middle)
        self.bn2 = nn.BatchNorm1d(middle)
        self.conv2 = SameConv(middle, middle, kernel=recipe.kernel, stride=stride, groups=groups)
        self.bn3 = nn.BatchNorm1d(middle)
        self.conv3 = SameConv(middle, width)
        self.se_fc1 = nn.Linear(width, width // 2)
        self.se_fc2 = nn.Linear(width // 2, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, width, ceil(T / stride))."""
        y = self.conv1(x if self.is_first else self._activate(x, self.bn1))
        y = self.conv2(self._activate(y, self.bn2))
        y = self.conv3(self._activate(y, self.bn3))
        gate = self.se_fc2(silu(self.se_fc1(y.mean(dim=-1)))).sigmoid()
        shortcut = x if self.stride == 1 else halve(x, self.stride)
        if self.before or self.after:
            shortcut = pad(shortcut, (0, 0, self.before, self.after))
        return torch.addcmul(shortcut, y, gate[:, :, None])

    def _activate(self, x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
        return dropout(silu(norm(x) if self.use_bn else x), self.dropout, self.training)


class Stage(nn.Module):
    """Blocks of one width, the first of which lowers the rate."""

    def __init__(self, blocks: list[Block]):
        super().__init__()
        self.block_list = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, T) -> (B, width, ceil(T / stride))."""
        for block in self.block_list:
            x = block(x)
        return x


class Net1D(nn.Module):
    """ECGs (B, L, T) float32 -> logits (B, labels).

    Batch norms are always there, under their official names; those that are not used have no gradient.
    """

    def __init__(self, recipe: EcgFounderRecipe, labels: int):
        super().__init__()
        self.use_bn = recipe.use_bn
        self.first_conv = SameConv(recipe.leads, recipe.base_filters, kernel=recipe.kernel, stride=2)
        self.first_bn = nn.BatchNorm1d(recipe.base_filters)
        self.stage_list = nn.ModuleList()
        channels = recipe.base_filters
        for width, count in zip(recipe.widths, recipe.blocks, strict=True):
            first = Block(recipe, channels, width, stride=recipe.stride, is_first=not self.stage_list)
            self.stage_list.append(Stage([first, *(Block(recipe, width, width) for _ in range(count - 1))]))
            channels = width
        self.dense = nn.Linear(channels, labels)
        for norm in self._unused_norms():
            norm.requires_grad_(False)

    def _unused_norms(self) -> list[nn.Module]:
        norms = [module for module in self.modules() if isinstance(module, nn.BatchNorm1d)]
        return [
            norm for norm in norms if not self.use_bn or norm is self.get_submodule("stage_list.0.block_list.0.bn1")
        ]

    def features(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, D): the mean over time after the last stage."""
        x = self.first_conv(x)
        x = silu(self.first_bn(x) if self.use_bn else x)
        for stage in self.stage_list:
            x = stage(x)
        return x.mean(dim=-1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, labels)."""
        return self.dense(self.features(x))


def net1d(recipe: EcgFounderRecipe, *, labels: int, seed: int) -> Net1D:
    """A network with PyTorch's default initialisation, by `seed`."""
    with seeded(seed):
        return Net1D(recipe, labels)
