"""The texts section of a study file: how texts become tokens, and which are each other's negatives."""

from dataclasses import dataclass

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.storage.files import is_file_name

TOKENIZER_REVISION = 1
"""Bumped by hand when the results of `tokenizer` change."""

NEGATIVES_REVISION = 2
"""Bumped by hand when the results of `negatives` change."""


@dataclass(frozen=True)
class TextRecipe:
    """How texts become tokens, and which are each other's negatives.

    t5: name of a folder with a T5 (`config.json`, `tokenizer.json` and safetensors), whose tokenizer is taken over and
    whose encoder says how alike two texts are. Without one, a Unigram tokenizer is trained, and TF-IDF says it.
    vocabulary: size of a trained tokenizer, at most; characters alone may be more. longest: tokens of a text, its end
    among them; what is longer is cut. negatives: how many of the least similar texts each text has.
    """

    t5: str | None = None
    vocabulary: int = 4000
    longest: int = 256
    negatives: int = 64

    def __post_init__(self) -> None:
        if self.t5 is not None and not is_file_name(self.t5):
            raise RecipeError(f"t5 must be the name of a folder, without a path, not `{self.t5}`", "t5")
        for key, least in (("vocabulary", 16), ("longest", 4), ("negatives", 1)):
            if getattr(self, key) < least:
                raise RecipeError(f"{key} must be at least {least}", key)
        if self.longest > 512:
            raise RecipeError("longest must be at most 512: the texts of ECGs are a few sentences", "longest")
