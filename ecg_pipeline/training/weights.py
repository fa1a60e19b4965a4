"""Weights on disk: writing checkpoints, reading foreign weights files safely, loading a state strictly."""

import re
from argparse import Namespace
from collections.abc import Collection, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save, save_file
from torch import Tensor, nn

from ecg_pipeline.storage.files import sha256_bytes, write_atomically, write_json
from ecg_pipeline.training.checkpoints import Checkpoint

PLAIN: list[Any] = [
    Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("_core", "core")),
]
"""What a torch file may hold beside tensors: a command line (BEiT's scripts), and NumPy's scalars, such as a score
(ECGFounder's), whose constructor had another name before NumPy 2."""


def save_checkpoint(folder: Path, *, state: Mapping[str, Tensor], config: Mapping[str, Any]) -> Checkpoint:
    """Write a checkpoint. The config is written last, so a folder with a config is complete."""
    tensors = {name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}
    write_atomically(folder / "weights.safetensors", lambda path: save_file(tensors, path))
    write_json(folder / "config.json", dict(config))
    return Checkpoint(folder)


def digest_state(state: Mapping[str, Tensor]) -> str:
    """Hex SHA-256 of the names, shapes, types and values of a state's tensors."""
    return sha256_bytes(save({name: tensor.detach().to("cpu").contiguous() for name, tensor in state.items()}))


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a local safetensors or torch file, read with `weights_only`, so that no code in it runs.

    Training wrappers are removed: a `model` or `state_dict` level, with all that stands beside it, such as options and
    scores, and the prefix `module.` of `DataParallel`. A file that is damaged, asks for code to be run, or holds
    anything but tensors by name is a ValueError.
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
    """Load a state into a module if it passes `check_fit`; else ValueError, and the module is unchanged."""
    check_fit(module.state_dict(), state=state, fresh=fresh)
    module.load_state_dict(dict(state), strict=False)


def check_fit(own: Mapping[str, Tensor], *, state: Mapping[str, Tensor], fresh: Collection[str] = ()) -> None:
    """Compare a state with a module's own state. Missing keys, unexpected keys and wrong shapes are a ValueError that
    lists them all. fresh: keys that may be missing, because they are newly initialised.
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
    """The content of a torch file. Published ones also hold what is in `PLAIN`, beside the weights."""
    with path.open("rb") as file, torch.serialization.safe_globals(PLAIN):
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            # torch's own message, left out here, advises to let the file run code.
            asked = re.search(r"(?:GLOBAL |<class ')([\w.]+)", str(error))
            what = f" (it asks for {asked[1]})" if asked else ""
            raise ValueError(f"{path.name} holds more than tensors{what}, so it is not read") from None
        except (EOFError, OSError, RuntimeError) as error:
            raise ValueError(f"{path.name} is damaged or not a file of torch's: {error}") from None
