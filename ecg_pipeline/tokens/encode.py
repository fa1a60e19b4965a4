"""Encoding images as patch tokens with a loaded tokenizer, and measuring how the vocabulary is used."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from ecg_pipeline.storage.files import write_json
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, encoder_shape
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import map_pixels, token_view
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, id_counts, usage

BATCH = 32
"""Images encoded at once. The activations of DALL-E's encoder for a whole shard would not fit in memory."""

INKED = 0.02
"""Mean ink above which a patch counts as inked, not blank."""


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer's network on a device."""

    network: nn.Module
    device: str

    def encode(self, images: NDArray[np.uint8]) -> NDArray[np.int16]:
        """(N, H, W) uint8 -> (N, P) int16: the likeliest token of each patch, row-major. Nothing is sampled."""
        batches = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        with torch.inference_mode():
            ids = [self._logits(batch).argmax(dim=1).flatten(1).to(torch.int16).cpu() for batch in batches]
        return torch.cat(ids).numpy()

    def _logits(self, images: NDArray[np.uint8]) -> Tensor:
        """(B, H, W) uint8 -> (B, V, H / 16, W / 16)."""
        grey = torch.from_numpy(token_view(images))[:, None].to(self.device)
        if isinstance(self.network, DiscreteVae):
            return self.network.encode(1 - grey)
        return self.network(map_pixels(grey.expand(-1, 3, -1, -1)))


def load_tokenizer(tokenizer: ImageTokenizer, device: str = "cpu") -> LoadedTokenizer:
    """Load a tokenizer's network onto a device."""
    config, state = tokenizer.config(), load_file(tokenizer.folder / "weights.safetensors")
    if config["kind"] == "dalle":
        network: nn.Module = DalleEncoder(encoder_shape(state))
    else:
        network = DiscreteVae(vocabulary=config["vocabulary"], hidden=config["hidden"])
    network.load_state_dict(state)
    return LoadedTokenizer(network.to(device).eval(), device)


def measure_usage(tokenizer: ImageTokenizer, images: NDArray[np.uint8], device: str = "cpu") -> ImageTokenizer:
    """Encode images (N, H, W) uint8 and add to the tokenizer's config how they use the vocabulary (see `usage`).

    Keys of the config: `usage` over all patches, and `usage_inked` over inked ones, if there are any.
    """
    config = tokenizer.config()
    ids = load_tokenizer(tokenizer, device).encode(images)
    is_inked = inked_patches(1 - torch.from_numpy(token_view(images))[:, None], int(ids.shape[1] ** 0.5))
    inked = ids[is_inked.flatten(1).numpy()]
    config |= {"sheets": len(images), "usage": usage(id_counts(ids, config["vocabulary"]))}
    if len(inked):
        config["usage_inked"] = usage(id_counts(inked, config["vocabulary"]))
    write_json(tokenizer.folder / "config.json", config)
    return tokenizer


def inked_patches(ink: Tensor, grid: int) -> Tensor:
    """Ink (N, 1, S, S) in [0, 1] -> (N, 1, grid, grid) bool: the patches with more mean ink than `INKED`."""
    return avg_pool2d(ink, ink.shape[-1] // grid) > INKED
