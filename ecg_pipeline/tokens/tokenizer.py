"""The image tokenizer: sheets to one id a patch."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ecg_pipeline.files import read_json, write_atomically, write_json
from ecg_pipeline.images.views import token_view
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, encoder_shape
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import map_pixels

BATCH = 32
"""Sheets that are named at once: a part's worth of a base-size encoder's activations would not fit in memory."""

DRAWN = 0.02
"""Mean ink from which a patch counts as drawn."""

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

    def load(self, device: str = "cpu") -> "LoadedTokenizer":
        """The network, ready to name tokens."""
        config, state = self.config(), load_file(self.folder / "weights.safetensors")
        if config["kind"] == "dalle":
            network: nn.Module = DalleEncoder(encoder_shape(state))
        else:
            network = DiscreteVae(config["vocabulary"], config["hidden"])
        network.load_state_dict(state)
        return LoadedTokenizer(network.to(device).eval(), device)


def save_tokenizer(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> ImageTokenizer:
    """Write a tokenizer, the config last: a folder with a config is whole."""
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(folder / "weights.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "config.json", dict(config))
    return ImageTokenizer(folder)


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer on its device."""

    network: nn.Module
    device: str

    def ids(self, sheets: NDArray[np.uint8]) -> NDArray[np.int16]:
        """(N, H, W) uint8 -> (N, P) int16, row-major: the likeliest token of each patch. Nothing is sampled."""
        batches = [sheets[start : start + BATCH] for start in range(0, len(sheets), BATCH)]
        with torch.inference_mode():
            named = [self._logits(batch).argmax(dim=1).flatten(1).to(torch.int16).cpu() for batch in batches]
        return torch.cat(named).numpy()

    def _logits(self, sheets: NDArray[np.uint8]) -> Tensor:
        """(B, V, H / 16, W / 16)."""
        grey = torch.from_numpy(token_view(sheets))[:, None].to(self.device)
        if isinstance(self.network, DiscreteVae):
            return self.network.encode(1 - grey)
        return self.network(map_pixels(grey.expand(-1, 3, -1, -1)))


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


def measure_usage(tokenizer: ImageTokenizer, sheets: NDArray[np.uint8], device: str = "cpu") -> ImageTokenizer:
    """Name the tokens of sheets (N, H, W), and add to the config how the vocabulary is used on them: `usage` over all
    patches, and `usage_drawn` over those that show something, if any does.
    """
    config = tokenizer.config()
    ids = tokenizer.load(device).ids(sheets)
    is_drawn = drawn_patches(1 - torch.from_numpy(token_view(sheets))[:, None], int(ids.shape[1] ** 0.5))
    drawn = ids[is_drawn.flatten(1).numpy()]
    config |= {"sheets": len(sheets), "usage": usage(id_counts(ids, config["vocabulary"]))}
    if len(drawn):
        config["usage_drawn"] = usage(id_counts(drawn, config["vocabulary"]))
    write_json(tokenizer.folder / "config.json", config)
    return tokenizer


def drawn_patches(ink: Tensor, grid: int) -> Tensor:
    """Ink (N, 1, S, S) -> (N, 1, grid, grid) bool: the patches with enough ink to show something."""
    return avg_pool2d(ink, ink.shape[-1] // grid) > DRAWN


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
