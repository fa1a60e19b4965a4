"""The form that fixtures have on disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor


@dataclass(frozen=True)
class Files:
    """A family's folder that fixtures are written to."""

    folder: Path

    def write(self, kind: str, facts: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """`{kind}.json` with the options and what is no tensor; `{kind}.safetensors` if there are tensors."""
        listed = dict(facts)
        if tensors is not None:
            kept = {name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}
            save_file(kept, self.folder / f"{kind}.safetensors")
            shapes = {name: {"shape": list(t.shape), "dtype": str(t.dtype)[6:]} for name, t in kept.items()}
            listed["tensors"] = shapes
        (self.folder / f"{kind}.json").write_text(json.dumps(listed))
