"""What every test has at hand."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real ECGs and golden numbers beside the project; tests that need it skip where it is absent."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"no real ECGs at {folder}")
    return folder
