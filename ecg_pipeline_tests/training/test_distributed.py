"""A batch divided among processes, or into micro-batches, gives the same step."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch

from ecg_pipeline.models.beit import sample_drop_path_scale
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline.training.pretrain import pretrain
from ecg_pipeline.training.recipes import MaskRecipe, PretrainRecipe
from ecg_pipeline_tests.training.test_training import TINY

WIDE = replace(TINY, drop_path=0.3)
RECIPE = PretrainRecipe(
    epochs=3, batch=9, learning_rate=1e-3, warmup_epochs=1, mask=MaskRecipe(patches=6, smallest_block=2)
)

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

UNDER_TORCHRUN = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.training.pretrain import pretrain
from ecg_pipeline.training.distributed import init_process_group
from ecg_pipeline_tests.training.test_distributed import RECIPE, WIDE
images, tokens = ImageShards(Path(sys.argv[1])), TokenShards(Path(sys.argv[2]))
ecg_ids = frozenset(images.index()["ecg_id"])
process_group = init_process_group("cpu")
assert process_group.size == 2
options = {"process_group": process_group, "micro_batch_size": 2}
data = {"images": {"s": images}, "tokens": {"s": tokens}, "ecg_ids": ecg_ids}
pretrain(WIDE, RECIPE, **data, vocabulary=8, out=Path(sys.argv[3]), **options)
"""


def trace(folder):
    return pl.read_parquet(folder / "trace.parquet")


def alone(examples, out, **options):
    torch.set_num_threads(1)
    images, tokens, table = examples
    ecg_ids = frozenset(table["ecg_id"])
    data = {"images": {"s": images}, "tokens": {"s": tokens}, "ecg_ids": ecg_ids}
    return pretrain(WIDE, RECIPE, **data, vocabulary=8, out=out, **options)


def agree(one: Checkpoint, other: Checkpoint):
    for name in ("loss", "accuracy", "gradient_norm"):
        assert trace(other.folder)[name].to_list() == pytest.approx(trace(one.folder)[name].to_list(), abs=1e-5)
    for name, weight in one.state().items():
        # Adam's first steps turn a gradient that is zero but for rounding into a step of either sign.
        assert torch.allclose(other.state()[name], weight, atol=1e-4), name


def test_micro_batches_of_any_size_make_one_batch(examples, tmp_path):
    agree(alone(examples, tmp_path / "whole"), alone(examples, tmp_path / "micro", micro_batch_size=2))


def test_two_processes_give_the_loss_of_one(examples, tmp_path):
    images, tokens, _ = examples
    script = tmp_path / "run.py"
    script.write_text(UNDER_TORCHRUN)
    out = tmp_path / "two"
    subprocess.run(
        [*TORCHRUN, script, images.folder, tokens.folder, out],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        check=True,
    )
    whole = alone(examples, tmp_path / "one")
    agree(whole, Checkpoint(out))
    assert Checkpoint(out).config() == whole.config()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_local_slices_make_up_the_batch(size):
    slices = [ProcessGroup(rank=rank, size=size).local_slice(10) for rank in range(size)]
    assert [place for local in slices for place in local] == list(range(10))


def test_stochastic_depth_keeps_the_mean():
    scale = sample_drop_path_scale(WIDE, 20_000, torch.Generator().manual_seed(0))
    assert scale.shape == (2, 2, 20_000)
    assert (scale[0] == 1).all()
    assert scale[1].unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert scale[1].mean() == pytest.approx(1, abs=0.02)
    assert sample_drop_path_scale(replace(TINY, drop_path=0.0), 3, torch.Generator()) is None
