"""The matrix products and convolutions of a computation, recorded to be computed again alone: a floor of its time."""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

_ATEN = torch.ops.aten
PRODUCTS = (
    _ATEN.mm,
    _ATEN.addmm,
    _ATEN.bmm,
    _ATEN.baddbmm,
    _ATEN.convolution,
    _ATEN.convolution_backward,
    _ATEN._scaled_dot_product_flash_attention_for_cpu,
    _ATEN._scaled_dot_product_flash_attention_for_cpu_backward,
)
"""PyTorch's operations that multiply matrices on a processor. Attention's two products are one with its softmax."""


def products_of(computation: Callable[[], object]) -> Callable[[], None]:
    """Compute once, and return a function that computes its matrix products and convolutions again, with the same
    operands and nothing between them. The operands stay in memory as long as the function does.
    """
    with _Recorder() as recorder:
        computation()

    def products() -> None:
        with torch.no_grad():
            for function, args, kwargs in recorder.calls:
                function(*args, **kwargs)

    return products


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple, dict]] = []

    def __torch_dispatch__(self, func: Any, types: object, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func.overloadpacket in PRODUCTS:
            self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))
