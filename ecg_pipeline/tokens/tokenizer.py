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

from ecg_pipeline.files import read_json, write_atomically, write_json
from ecg_pipeline.images.views import token_view
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, encoder_shape
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import map_pixels

BATCH = 32
"""Sheets that are named at once: a part's worth of a base-size encoder's activations would not fit in memory."""


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


def usage(ids: Tensor, vocabulary: int) -> dict[str, float]:
    """How a vocabulary is used: perplexity of the ids, share of the commonest, and share of ids that occur at all."""
    share = torch.bincount(ids.reshape(-1).long(), minlength=vocabulary).double()
    share /= share.sum()
    used = share[share > 0]
    return {
        "perplexity": float(torch.exp(-(used * used.log()).sum())),
        "commonest": float(share.max()),
        "used": float(len(used) / vocabulary),
    }
