"""The image tokenizer: sheets to one id a patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.storage.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from torch import Tensor

LEAST_PERPLEXITY = 4.0
"""Two bits a drawn patch. With less, naming a masked patch asks for little more than whether something is drawn there;
trained tokenizers that are well have hundreds."""

GREATEST_SHARE = 0.98
"""With one id on more of the drawn patches, always naming it looks like a model that has learned everything."""


@dataclass(frozen=True)
class ImageTokenizer:
    """A frozen tokenizer. Files: `weights.safetensors`, `config.json`."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """Kind, vocabulary, and what is known of how the vocabulary is used."""
        return read_json(self.folder / "config.json")

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.config()["vocabulary"]


def save_tokenizer(folder: Path, state: "Mapping[str, Tensor]", config: Mapping[str, Any]) -> ImageTokenizer:
    """Write a tokenizer, the config last: a folder with a config is whole."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(folder / "weights.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "config.json", dict(config))
    return ImageTokenizer(folder)


def id_counts(ids: NDArray[np.integer], vocabulary: int) -> NDArray[np.int64]:
    """How often each id occurs: ids of any shape -> (V,)."""
    return np.bincount(ids.reshape(-1), minlength=vocabulary)


def usage(counts: NDArray[np.int64]) -> dict[str, float]:
    """How a vocabulary is used: perplexity of the ids, share of the commonest, and share of ids that occur at all.

    counts: (V,), at least one of them positive.
    """
    share = counts[counts > 0] / counts.sum()
    return {
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "commonest": float(share.max()),
        "used": float(len(share) / len(counts)),
    }


def collapse(config: Mapping[str, Any]) -> list[str]:
    """A sentence for each sign that a tokenizer, of this config, has collapsed; none is how it must be.

    Judged on drawn patches: blank paper, most of a sheet, needs one name and may have no more.
    """
    used = config.get("usage_drawn")
    if used is None:
        return ["no patch of the sheets that it was measured on shows anything"]
    found = []
    if used["perplexity"] < LEAST_PERPLEXITY:
        found.append(f"the perplexity of its ids is {used['perplexity']:.1f}, less than {LEAST_PERPLEXITY:g}")
    if used["commonest"] > GREATEST_SHARE:
        found.append(f"one id names {used['commonest']:.1%} of the patches, more than {GREATEST_SHARE:.0%}")
    return found
