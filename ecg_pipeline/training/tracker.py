"""Who is told how a training goes. The loops know this Protocol and no vendor."""

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Takes parameters once and metrics by step."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """What the training was told."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        ...


class NoTracker:
    """Tells nobody."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""
