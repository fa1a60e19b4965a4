"""What every test has at hand."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

from ecg_pipeline_tests.real import read_ptb_xl

# Two halves of the tests run side by side: threads of one that spin would wait for those of the other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Laws are not about time, and machines are shared.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

SHARED = Path(__file__).parents[1].parent / "shared"
"""The folder of real ECGs and golden numbers beside the project."""


def pytest_addoption(parser):
    parser.addoption("--golden", type=Path, help=f"folder of conformance fixtures (default: {SHARED.name}/golden)")


def pytest_configure(config):
    golden = config.getoption("--golden")
    if golden is not None and not golden.is_dir():
        raise pytest.UsageError(f"--golden {golden}: there is no such folder")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside the project; tests that need it skip where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(f"no real ECGs at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def ptb_xl(shared):
    """Real ECGs (16, 12, 5000) in millivolts at 500 Hz."""
    return read_ptb_xl(shared, 16)
