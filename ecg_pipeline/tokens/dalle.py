"""DALL-E's published encoder as the image tokenizer (paper: Masked Image Modeling), imported from a local file.

The published file is a pickle of whole modules. Torch's restricted unpickler reads it without running its code: each of
its classes is replaced by an empty placeholder, and a file with any other class is refused.
"""

from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors.torch import load_file
from torch import Tensor

from ecg_pipeline.tokens.dalle_networks import DalleEncoder, encoder_shape
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, save_tokenizer

PICKLED_CLASSES = (
    "dall_e.encoder.Encoder",
    "dall_e.encoder.EncoderBlock",
    "dall_e.utils.Conv2d",
    "torch.nn.modules.activation.ReLU",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.linear.Identity",
    "torch.nn.modules.pooling.MaxPool2d",
)
"""Classes in the published pickle. None of them is imported."""


class _Inert:
    """Placeholder for a pickled class: it has the attributes of the pickled object and no methods."""

    _modules: dict[str, "_Inert"]
    _parameters: dict[str, Tensor]


def import_tokenizer(weights: Path, *, out: Path) -> ImageTokenizer:
    """Import DALL-E's encoder from a safetensors file with its official names, or from the published pickle.

    A file that would run code is a ValueError; missing or unexpected weights are a RuntimeError that lists them.
    """
    if not weights.is_file():
        raise FileNotFoundError(
            f"{weights}: no such file. The study uses DALL-E's tokenizer: put the weights of its encoder there"
        )
    state = load_file(weights) if weights.suffix == ".safetensors" else _read_pickle(weights)
    shape = encoder_shape(state)
    DalleEncoder(shape).load_state_dict(state)
    return save_tokenizer(out, state=state, config={"kind": "dalle", "vocabulary": shape.vocabulary})


def _read_pickle(path: Path) -> dict[str, Tensor]:
    """Weights of a pickled encoder, or of a pickled state dict."""
    try:
        with torch.serialization.safe_globals([(_Inert, name) for name in PICKLED_CLASSES]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError:
        # torch's own message, left out here, advises to let the file run code.
        raise ValueError(f"{path.name} holds more than weights and DALL-E's classes, so it is not read") from None
    return content if isinstance(content, dict) else dict(_parameters(content))


def _parameters(module: _Inert, prefix: str = "") -> list[tuple[str, Tensor]]:
    own = [(prefix + name, tensor.detach()) for name, tensor in module._parameters.items() if tensor is not None]
    return own + [pair for name, child in module._modules.items() for pair in _parameters(child, f"{prefix}{name}.")]
