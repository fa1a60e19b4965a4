"""The network of the family: a stem, residual blocks, mean and maximum over time, and a linear head."""

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.training.classifier import Classifier


class Block(nn.Module):
    """Two convolutions and a shortcut: (B, C, T) -> (B, width, T / stride)."""

    def __init__(self, channels: int, width: int, *, kernel: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv1d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.norm1 = nn.BatchNorm1d(width)
        self.conv2 = nn.Conv1d(width, width, kernel, padding=kernel // 2, bias=False)
        self.norm2 = nn.BatchNorm1d(width)
        self.shortcut = nn.Sequential(nn.Conv1d(channels, width, 1, stride, bias=False), nn.BatchNorm1d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, width, T / stride)."""
        y = relu(self.norm1(self.conv1(x)))
        return relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallCnnClassifier(Classifier):
    """Waveform windows (B, L, T) float32 -> log-odds (B, 1).

    In training, examples are multiplied by random factors from torch's global generator, which is seeded by step.
    """

    blank = 0.0

    def __init__(self, recipe: SmallCnnRecipe):
        super().__init__()
        self.gain = recipe.gain
        first = recipe.widths[0]
        self.stem = nn.Sequential(
            nn.Conv1d(recipe.leads, first, recipe.stem_kernel, 2, padding=recipe.stem_kernel // 2, bias=False),
            nn.BatchNorm1d(first),
            nn.ReLU(),
        )
        pairs = zip((first, *recipe.widths[:-1]), recipe.widths, strict=True)
        self.blocks = nn.ModuleList(Block(channels, width, kernel=recipe.kernel, stride=2) for channels, width in pairs)
        self.dropout = nn.Dropout(recipe.dropout)
        self.head = nn.Linear(2 * recipe.widths[-1], 1)

    def normalise(self, x: Tensor) -> Tensor:
        """As the windows are; in training, each example times a random factor."""
        if not self.training:
            return x
        return x * (1 + self.gain * (2 * torch.rand(len(x), 1, 1) - 1)).to(x)

    def encode(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, 2 D): mean and maximum over time."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return torch.cat([x.mean(dim=-1), x.amax(dim=-1)], dim=1)

    def classify(self, features: Tensor) -> Tensor:
        """(B, 2 D) -> (B, 1)."""
        return self.head(self.dropout(features))

    def stages(self) -> list[list[nn.Parameter]]:
        """Stem, one stage a block, head."""
        return [list(module.parameters()) for module in (self.stem, *self.blocks, self.head)]


def small_cnn(recipe: SmallCnnRecipe, *, seed: int) -> SmallCnnClassifier:
    """A classifier with PyTorch's default initialisation, by `seed`."""
    with seeded(seed):
        return SmallCnnClassifier(recipe)
