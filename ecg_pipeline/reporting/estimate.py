"""A value with its interval, as tables print it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; None where it could not be computed."""

    value: float | None
    low: float | None
    high: float | None


def estimate(row: Mapping[str, Any], name: str) -> Estimate:
    """The columns of a metric in a row of `results.parquet` or `differences.parquet`."""
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])
