import pytest
import torch

from ecg_pipeline_tests.conformance.fixtures import find_fixtures
from ecg_pipeline_tests.conformance.reference.folder import write_folder


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def other_shapes(tmp_path_factory):
    """Fixtures that the plain reference made: two folders of one family."""
    folder = tmp_path_factory.mktemp("other_shapes")
    write_folder(folder)
    return find_fixtures(folder)
