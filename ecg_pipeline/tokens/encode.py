"""A tokenizer at work: the token of every patch, and how the vocabulary is used."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ecg_pipeline.images.views import token_view
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, encoder_shape
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import map_pixels
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, id_counts, usage

BATCH = 32
"""Sheets that are named at once: a part's worth of a base-size encoder's activations would not fit in memory."""

DRAWN = 0.02
"""Mean ink from which a patch counts as drawn."""


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


def load_tokenizer(tokenizer: ImageTokenizer, device: str = "cpu") -> LoadedTokenizer:
    """The network of a tokenizer on a device."""
    config, state = tokenizer.config(), load_file(tokenizer.folder / "weights.safetensors")
    if config["kind"] == "dalle":
        network: nn.Module = DalleEncoder(encoder_shape(state))
    else:
        network = DiscreteVae(config["vocabulary"], config["hidden"])
    network.load_state_dict(state)
    return LoadedTokenizer(network.to(device).eval(), device)


def measure_usage(tokenizer: ImageTokenizer, sheets: NDArray[np.uint8], device: str = "cpu") -> ImageTokenizer:
    """Name the tokens of sheets (N, H, W), and add to the config how the vocabulary is used on them: `usage` over all
    patches, and `usage_drawn` over those that show something, if any does.
    """
    config = tokenizer.config()
    ids = load_tokenizer(tokenizer, device).ids(sheets)
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
