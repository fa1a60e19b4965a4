import pytest

from ecg_pipeline_tests.signals.real import read_ptb_xl


@pytest.fixture(scope="session")
def ptb_xl(shared):
    """Real ECGs (16, 12, 5000) in millivolts at 500 Hz."""
    return read_ptb_xl(shared, 16)
