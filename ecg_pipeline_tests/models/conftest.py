"""The example of a family that a test runs for, and what its pretraining gives, made once for all tests."""

from functools import cache

import pytest
import torch

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.training.checkpoints import PretrainedModel
from ecg_pipeline_tests.models.examples import PRETRAINED, write_example
from ecg_pipeline_tests.training.test_distributed import under_torchrun


@pytest.fixture(scope="session")
def example_named(tmp_path_factory):
    """The small example of a family, by its name."""

    @cache
    def write(name):
        return write_example(name, tmp_path_factory.mktemp(name))

    return write


@pytest.fixture(scope="session", params=list(FAMILIES))
def example(request, example_named):
    """The example of each family."""
    return example_named(request.param)


@pytest.fixture(scope="session")
def pretrained(example):
    """What the pretraining of the example gives."""
    return example.pretrained(example.folder / "pretrained")


UNDER_TORCHRUN = """
import sys
from pathlib import Path
from ecg_pipeline.training.distributed import init_process_group
from ecg_pipeline_tests.models.examples import example_of
process_group = init_process_group("cpu")
assert process_group.size == 2
out = Path(sys.argv[1])
for name, folder in (argument.split("=", 1) for argument in sys.argv[2:]):
    example = example_of(name, Path(folder))
    example.pretrained(out / name, process_group=process_group, micro_batch_size=2)
"""


@pytest.fixture(scope="session")
def pretrained_by_two_processes(example_named, tmp_path_factory):
    """What the pretraining of each family's example gives where two processes share it, by family. All in one start."""
    folder = tmp_path_factory.mktemp("two_processes")
    script, out = folder / "run.py", folder / "out"
    script.write_text(UNDER_TORCHRUN)
    under_torchrun(script, out, *(f"{name}={example_named(name).folder}" for name in PRETRAINED))
    return {name: PretrainedModel(out / name) for name in PRETRAINED}


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order."""
    torch.set_num_threads(1)
