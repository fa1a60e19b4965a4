"""Weights into files and out of them: foreign files are read as tensors alone, and nothing is half loaded."""

from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.storage.files import write_atomically, write_json


def save_checkpoint(folder: Path, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Checkpoint:
    """Write a checkpoint, the config last: a folder with a config is whole."""
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(folder / "weights.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "config.json", dict(config))
    return Checkpoint(folder)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a local file: safetensors, or a torch file of tensors, from which no code is run.

    Training wrappers are taken off: a `model` or `state_dict` level, and the `module.` that data parallel prefixes.
    A file that would run code, is damaged, or holds anything else than tensors by name is a ValueError.
    """
    content: Any = load_file(path) if path.suffix == ".safetensors" else _read_torch_file(path)
    for level in ("model", "state_dict"):
        if isinstance(content, dict):
            content = content.get(level, content)
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} does not hold tensors by name")
    if others := [str(name) for name, value in content.items() if not isinstance(value, Tensor)]:
        raise ValueError(f"{path.name} holds no tensor under {', '.join(others)}")
    parallel = all(name.startswith("module.") for name in content)
    return {name.removeprefix("module.") if parallel else name: tensor for name, tensor in content.items()}


def load_exactly(module: nn.Module, state: Mapping[str, Tensor], fresh: Collection[str] = ()) -> None:
    """Load a state into a module whole; only `fresh` names may be missing. Anything else that does not fit is a
    ValueError, see `check_fit`.
    """
    check_fit(module.state_dict(), state, fresh)
    module.load_state_dict(dict(state), strict=False)


def check_fit(own: Mapping[str, Tensor], state: Mapping[str, Tensor], fresh: Collection[str] = ()) -> None:
    """Compare a state with a module's own. A missing key that is not expected to be fresh, an unexpected key or a wrong
    shape is a ValueError that lists them all: nothing is half loaded.
    """
    problems = [f"missing {name}" for name in own if name not in state and name not in fresh]
    problems += [f"unexpected {name}" for name in state if name not in own]
    problems += [
        f"{name} is {tuple(state[name].shape)}, not {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        raise ValueError(f"the checkpoint does not fit the model: {'; '.join(problems)}")


def _read_torch_file(path: Path) -> object:
    """The content of a torch file. BEiT's scripts keep their command line, a plain Namespace, beside the weights."""
    with path.open("rb") as file, torch.serialization.safe_globals([Namespace]):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError:
            # torch's own text, left out here, advises to let the file run code.
            raise ValueError(f"{path.name} holds more than tensors, so it is not read") from None
        except (EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{path.name} is damaged or not a file of torch's: {error}") from None
