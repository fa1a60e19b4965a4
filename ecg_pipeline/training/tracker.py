"""Experiment tracking as the training loops see it: a Protocol, so that they import no tracking library."""

from collections.abc import Mapping
from typing import Any, Protocol


class Tracker(Protocol):
    """Logs a run's parameters once and its metrics by step."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Log the parameters of the run; values may be nested mappings."""
        ...

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Log one point of each curve."""
        ...


class NoTracker:
    """No-op tracker."""

    def parameters(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Do nothing."""
