"""What a reader of a file format is: one function from a path to an ECG."""

from pathlib import Path
from typing import Protocol

from ecg_pipeline.ecg import Ecg


class Reader(Protocol):
    """Reads one file as one ECG.

    path: a regular file inside its drop folder, not larger than the recipe allows.
    Raises `Rejected` for every file that cannot be used, and nothing else whatever the file holds.
    """

    def __call__(self, path: Path) -> Ecg:
        """Read the ECG at `path`."""
        ...
