"""A batch divided among processes, or into micro-batches, gives the same step."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from ecg_pipeline.models.heartbeit.beit import sample_drop_path_scale
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline_tests.training.small import TINY

WIDE = replace(TINY, drop_path=0.3)
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def trace(checkpoint):
    return pl.read_parquet(checkpoint.folder / "trace.parquet")


def under_torchrun(script, *arguments):
    """Run a script in two processes."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    subprocess.run([*TORCHRUN, script, *arguments], env=environment, check=True)


def agree(one: Checkpoint, other: Checkpoint):
    for name in ("loss", "accuracy", "gradient_norm"):
        assert trace(other)[name].to_list() == pytest.approx(trace(one)[name].to_list(), abs=1e-5)
    for name, weight in one.state().items():
        # Adam's first steps turn a gradient that is zero but for rounding into a step of either sign.
        assert torch.allclose(other.state()[name], weight, atol=1e-4), name


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_local_slices_make_up_the_batch(size):
    slices = [ProcessGroup(rank=rank, size=size).local_slice(10) for rank in range(size)]
    assert [place for local in slices for place in local] == list(range(10))


@pytest.mark.parametrize(("batch", "group", "size"), [(12, 4, 2), (12, 4, 3), (10, 4, 2), (8, 8, 1), (16, 2, 5)])
def test_local_slices_never_divide_a_group(batch, group, size):
    slices = [ProcessGroup(rank=rank, size=size).local_slice(batch, group) for rank in range(size)]
    assert [place for local in slices for place in local] == list(range(batch))
    assert all(local.start % group == 0 for local in slices)
    assert all(local.stop % group == 0 or local.stop == batch for local in slices)


def test_stochastic_depth_keeps_the_mean():
    scale = sample_drop_path_scale(WIDE, 20_000, torch.Generator().manual_seed(0))
    assert scale.shape == (2, 2, 20_000)
    assert (scale[0] == 1).all()
    assert scale[1].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert scale[1].mean() == pytest.approx(1, abs=0.02)
    assert sample_drop_path_scale(replace(TINY, drop_path=0.0), 3, torch.Generator()) is None
