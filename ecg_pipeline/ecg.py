"""Shared definitions: leads, shape legend and units, progress callback, recipe errors, and one ECG as recorded.

Shape legend, used in every docstring of the project:
N ECGs, L leads, T samples, P patches, D width, V vocabulary, H W pixels.
Names carry their unit: `_mv` millivolts, `_hz` hertz, `_ms` milliseconds, `_px` pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""The twelve standard leads in their clinical order."""

INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")
"""The eight leads that a cart stores and the paper plots; the other four are linear combinations of I and II."""

Progress = Callable[[int, int], None]
"""Progress callback: called with (done, total) while long work runs."""


def no_progress(done: int, total: int) -> None:
    """No-op progress callback."""


MAX_SEED = 2**32 - 1
"""Largest seed that every random generator accepts."""


class RecipeError(ValueError):
    """An invalid recipe. keys: the values of it that may be wrong, most likely first."""

    def __init__(self, sentence: str, *keys: str):
        super().__init__(sentence)
        self.keys = keys


def check_positive(recipe: object, *keys: str) -> None:
    """RecipeError if a number of a recipe is not above 0."""
    for key in keys:
        if getattr(recipe, key) <= 0:
            raise RecipeError(f"{key} must be positive", key)


def check_rates(recipe: object, *keys: str) -> None:
    """RecipeError if a rate of a recipe, or one of several, is below 0 or not below 1."""
    for key in keys:
        value = getattr(recipe, key)
        if any(not 0 <= rate < 1 for rate in (value if isinstance(value, tuple) else (value,))):
            raise RecipeError(f"{key} must lie in [0, 1)", key)


def check_seed(seed: int, key: str = "seed") -> None:
    """Raise a RecipeError unless every random generator accepts the seed."""
    if not 0 <= seed <= MAX_SEED:
        raise RecipeError(f"a seed must lie between 0 and {MAX_SEED:,}, not {seed}", key)


@dataclass(frozen=True, eq=False)
class Ecg:
    """One ECG as recorded: its samples as counts, their scale, and the metadata of its file.

    counts: (L, T) int16, baseline removed. Millivolts = counts * microvolts_per_count[:, None] / 1000.
    source_sha256: digest of the file that was read; of a WFDB record, its header; of an ECG in a file of many, its
    samples as the file holds them.
    rounding_microvolts: largest difference to the file's samples, where these are no counts.
    patient_id is the hospital's own identifier: it never leaves `ingest`, which replaces it by a keyed pseudonym.
    """

    counts: NDArray[np.int16]
    leads: tuple[str, ...]
    microvolts_per_count: tuple[float, ...]
    sampling_hz: int
    source_sha256: str
    patient_id: str | None = None
    acquired_at: datetime | None = None
    age_years: float | None = None
    sex: str | None = None
    site_name: str | None = None
    device: str | None = None
    fold: int | None = None
    rounding_microvolts: float = 0.0

    @property
    def seconds(self) -> float:
        """Duration of the recording."""
        return self.counts.shape[1] / self.sampling_hz
