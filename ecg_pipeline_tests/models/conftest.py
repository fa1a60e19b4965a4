"""The example of a family that a test runs for."""

import numpy as np
import pytest
import torch

from ecg_pipeline.models import FAMILIES
from ecg_pipeline_tests.models.test_every_family import ECGS, SHARDS, example_of, labels
from ecg_pipeline_tests.training.small import names, write_view


@pytest.fixture(scope="session", params=list(FAMILIES))
def example(request, tmp_path_factory):
    """The small example of each family."""
    made = example_of(request.param, tmp_path_factory.mktemp(request.param))
    examples = made.row.examples(labels().repeat(made.together))
    ecg_ids = np.repeat(names(SHARDS, ECGS // SHARDS), made.together)
    write_view(made.folder / "view", np.split(examples, SHARDS), ecg_ids)
    for name, (array, attributes) in made.row.targets(examples).items():
        write_view(made.folder / name, np.split(array, SHARDS), **attributes)
    made.row.fitted(made.folder)
    return made


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order."""
    torch.set_num_threads(1)
