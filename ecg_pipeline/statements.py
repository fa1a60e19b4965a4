"""The statements of GE carts that ECGFounder was trained on: a closed list of 150 names."""

import json
from functools import cache
from pathlib import Path

NAMES = Path(__file__).with_name("statements.json")
"""The names, with their source and licence (MIT)."""


@cache
def statement_names() -> tuple[str, ...]:
    """The names in the order of ECGFounder's outputs, as its authors write them. One of them is lower-case."""
    return tuple(json.loads(NAMES.read_text(encoding="utf-8"))["names"])
