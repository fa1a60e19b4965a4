"""The tokenizer section of a study file: a tokenizer trained here, or DALL-E's."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError, check_seed
from ecg_pipeline.storage.files import is_file_name
from ecg_pipeline.tokens.tokenizer import MIN_PERPLEXITY

REVISION = 4
"""Bumped by hand when the results of `train` or `dalle` change."""

GRID = 14
"""Tokens along a side of an image. Both tokenizers halve the 112 px of the token view three times."""


@dataclass(frozen=True)
class TokenizerRecipe:
    """A discrete VAE trained on ECG images.

    hidden: width after its first halving of the image, doubled by each of the two others.
    temperature: of the Gumbel-softmax codes, from the first value to the second.
    ink_weight: extra weight of an inked pixel in the reconstruction loss; blank paper has weight 1.
    usage_weight: of the loss for uneven use of the vocabulary on inked patches, without which the codes collapse.
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
        if not MIN_PERPLEXITY <= self.vocabulary <= 32767:
            raise RecipeError(
                f"a vocabulary must have {MIN_PERPLEXITY:g} to 32,767 tokens: with fewer its use always counts as "
                "collapsed, and tokens are stored as int16",
                "vocabulary",
            )
        for key in ("hidden", "steps", "batch"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if min(self.temperature) <= 0:
            raise RecipeError("temperatures must be positive", "temperature")
        if self.learning_rate <= 0:
            raise RecipeError("the learning rate must be positive", "learning_rate")
        for key in ("ink_weight", "usage_weight"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{key} must be at least 0", key)
        check_seed(self.seed)


@dataclass(frozen=True)
class ImportedTokenizer:
    """DALL-E's tokenizer, as in the paper, from a local weights file of its encoder.

    weights: name of the file, safetensors or the published pickle.
    """

    kind: Literal["dalle"] = "dalle"
    weights: str = "dalle_encoder.safetensors"

    def __post_init__(self) -> None:
        if not is_file_name(self.weights):
            raise RecipeError(f"weights must be the name of a file, without a folder, not `{self.weights}`", "weights")
