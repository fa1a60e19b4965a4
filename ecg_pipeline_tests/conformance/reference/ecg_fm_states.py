"""Forms of weights that the writers of ECG-FM's fixtures share."""

from collections.abc import Mapping

from torch import Tensor


def double(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.double() for name, tensor in state.items()}


def single(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().float() if t.is_floating_point() else t for name, t in tensors.items()}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
