"""The image tokenizer on disk, and the measures of how it uses its vocabulary."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.storage.files import read_json, write_atomically, write_json

if TYPE_CHECKING:
    from torch import Tensor

MIN_PERPLEXITY = 4.0
"""Lowest accepted perplexity of the ids of inked patches: two bits per patch. Below it, predicting the token of a
masked patch is little more than predicting whether it is inked; well-trained tokenizers reach hundreds."""

MAX_COMMONEST_SHARE = 0.98
"""Highest accepted share of the commonest id among inked patches. Above it, always predicting it is near-perfect."""


@dataclass(frozen=True)
class ImageTokenizer:
    """A trained or imported tokenizer. Files: `weights.safetensors`, `config.json`."""

    folder: Path

    def config(self) -> dict[str, Any]:
        """Kind, vocabulary, and the measured usage of the vocabulary."""
        return read_json(self.folder / "config.json")

    @property
    def vocabulary(self) -> int:
        """Number of token ids."""
        return self.config()["vocabulary"]


def save_tokenizer(folder: Path, *, state: "Mapping[str, Tensor]", config: Mapping[str, Any]) -> ImageTokenizer:
    """Write a tokenizer. The config is written last, so a folder with a config is complete."""
    from safetensors.torch import save_file

    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(folder / "weights.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "config.json", dict(config))
    return ImageTokenizer(folder)


def id_counts(ids: NDArray[np.integer], vocabulary: int) -> NDArray[np.int64]:
    """Number of occurrences of each id: ids of any shape -> (V,)."""
    return np.bincount(ids.reshape(-1), minlength=vocabulary)


def usage(counts: NDArray[np.int64]) -> dict[str, float]:
    """Usage of a vocabulary: perplexity of the ids, share of the commonest id, share of the ids that occur.

    counts: (V,), see `id_counts`; at least one of them positive.
    """
    share = counts[counts > 0] / counts.sum()
    return {
        "perplexity": float(np.exp(-(share * np.log(share)).sum())),
        "commonest": float(share.max()),
        "used": float(len(share) / len(counts)),
    }


def signs_of_collapse(config: Mapping[str, Any]) -> list[str]:
    """Signs that a tokenizer with this config has collapsed, one sentence each; an empty list is a pass.

    Measured on inked patches: blank paper, most of an image, needs only one token.
    """
    used = config.get("usage_inked")
    if used is None:
        return ["no patch of the measured images is inked"]
    found = []
    if used["perplexity"] < MIN_PERPLEXITY:
        found.append(f"the perplexity of its ids is {used['perplexity']:.1f}, less than {MIN_PERPLEXITY:g}")
    if used["commonest"] > MAX_COMMONEST_SHARE:
        found.append(f"one id has {used['commonest']:.1%} of the inked patches, more than {MAX_COMMONEST_SHARE:.0%}")
    return found
