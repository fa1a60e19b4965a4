"""Fixtures as they lie in a folder, and how numbers are compared with theirs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Fixture:
    """Inputs, options and the reference's outputs of one kind. Files: `{kind}.json`, and mostly `{kind}.safetensors`.

    path: of the files, without a suffix.
    """

    path: Path

    @property
    def family(self) -> str:
        """The model that it belongs to: its folder's name."""
        return self.path.parent.name

    @property
    def kind(self) -> str:
        """What it holds: its files' name."""
        return self.path.name

    @cached_property
    def facts(self) -> dict[str, Any]:
        """Options, and outputs that are not tensors."""
        return json.loads(self.path.with_suffix(".json").read_text())

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Inputs, weights and outputs by name."""
        return load_file(self.path.with_suffix(".safetensors"))

    def named(self, prefix: str) -> dict[str, Tensor]:
        """The tensors of one prefix, without it."""
        return {k.removeprefix(prefix): tensor for k, tensor in self.tensors.items() if k.startswith(prefix)}

    def beside(self, kind: str) -> "Fixture":
        """Another fixture of the same folder."""
        return Fixture(self.path.with_name(kind))


def find_fixtures(folder: Path) -> list[Fixture]:
    """Every fixture below a folder."""
    files = [path for path in folder.resolve().rglob("*") if path.suffix in (".json", ".safetensors")]
    return [Fixture(path) for path in sorted({path.with_suffix("") for path in files})]


def close(found: Tensor, expected: Tensor, within: float, what: str) -> None:
    """AssertionError unless shapes and types are equal, and values within an absolute tolerance."""
    torch.testing.assert_close(found, expected, atol=within, rtol=0, msg=lambda text: f"{what}: {text}")


def close_gradients(found: Mapping[str, Tensor | None], expected: Mapping[str, Tensor]) -> None:
    """Gradients by name, each within 1e-4 of the largest value in it."""
    assert expected, "the fixture has no gradients"
    for name, gradient in expected.items():
        own = found[name]
        assert own is not None, f"{name} has no gradient"
        close(own, gradient, max(1e-4 * float(gradient.abs().max()), 1e-9), f"gradient of {name}")
