"""Where the image tokenizer comes from, as a study says it."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

REVISION = 4
"""Bumped by hand when the results of `train` or `dalle` change."""


@dataclass(frozen=True)
class TokenizerRecipe:
    """A discrete VAE trained on ECG sheets.

    hidden: width after its first halving of the image, doubled by each of the two others.
    temperature: of the relaxed codes, falling from the first value to the second.
    ink_weight: how much more a drawn pixel counts than blank paper in the reconstruction.
    usage_weight: pressure towards using the whole vocabulary on drawn patches, without which the codes collapse.
    """

    kind: Literal["trained"] = "trained"
    vocabulary: int = 1024
    hidden: int = 64
    steps: int = 3000
    batch: int = 32
    learning_rate: float = 2e-3
    temperature: tuple[float, float] = (1.0, 0.0625)
    ink_weight: float = 8.0
    usage_weight: float = 0.02
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.vocabulary <= 32767:
            raise ValueError("a vocabulary has 2 to 32,767 tokens: tokens are stored as int16")
        if min(self.hidden, self.steps, self.batch) < 1:
            raise ValueError("hidden, steps and batch are at least 1")
        if min(*self.temperature, self.learning_rate) <= 0 or min(self.ink_weight, self.usage_weight) < 0:
            raise ValueError("temperatures and the learning rate are positive, and weights are not negative")


@dataclass(frozen=True)
class ImportedTokenizer:
    """DALL-E's tokenizer, as the paper used it, from a local weights file of its encoder.

    weights: name of the file: safetensors, or the published pickle.
    """

    kind: Literal["dalle"] = "dalle"
    weights: str = "dalle_encoder.safetensors"

    def __post_init__(self) -> None:
        if PurePath(self.weights).name != self.weights:
            raise ValueError(f"weights is the name of a file, without a folder, not `{self.weights}`")
