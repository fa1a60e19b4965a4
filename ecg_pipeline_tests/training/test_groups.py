"""An objective whose loss is not a sum over examples: its groups are never divided, whoever computes them."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import PretrainedModel
from ecg_pipeline.training.pretrain import pretrain
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline_tests.training.small import write_view
from ecg_pipeline_tests.training.test_distributed import agree, under_torchrun

RECIPE = PretrainRecipe(epochs=3, batch=12, learning_rate=1e-2, warmup_epochs=1)


class Contrastive:
    """Every example is to be told from the others of its group by a noisy copy of itself."""

    def __init__(self, seed, group=4):
        torch.manual_seed(seed)
        self.network, self.group, self.seed = nn.Linear(16, 3), group, seed
        self.seen = []

    def parameter_groups(self, weight_decay):
        return [{"params": list(self.network.parameters()), "weight_decay": weight_decay}]

    def micro_batch(self, arrays, places, *, step, device):
        self.seen.append(places)
        noise = [np.random.default_rng([self.seed, step, place]).normal(0, 0.1, 16) for place in places]
        x = arrays["signals"][places.start : places.stop]
        return torch.from_numpy(np.stack([x, x + np.array(noise, np.float32)])).to(device)

    def count(self, micro_batch):
        return torch.tensor(micro_batch.shape[1])

    def backward(self, network, micro_batch, *, weight):
        one, other = normalize(network(micro_batch), dim=-1)
        loss = cross_entropy(one @ other.T / 0.5, torch.arange(len(one)), reduction="sum")
        (loss * weight).backward()
        return loss.detach()[None]

    def point(self, sums, count):
        return {"loss": float(sums) / count, "accuracy": 0.0}

    def state(self):
        return self.network.state_dict()

    def facts(self, counts, examples):
        return {"terms": int(counts), "of_examples": examples}


def contrasted(folder, out, *, group=4, recipe=RECIPE, objectives=None, **options):
    """The network pretrained on the signals in a folder, and with `objectives` a list of the objectives made for it."""
    torch.set_num_threads(1)
    signals = ArrayShards(Path(folder))
    table = signals.index().select("ecg_id", site=pl.lit("s"))

    def new_objective(seed):
        made = Contrastive(seed, group)
        if objectives is not None:
            objectives.append(made)
        return made

    batches = Batches(arrays={"signals": {"s": signals}}, table=table)
    return pretrain(new_objective, recipe, batches=batches, facts={}, out=out, **options)


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("signals")
    write_view(folder, np.split(rng.normal(0, 1, (36, 16)).astype(np.float32), 3))
    return folder


def test_the_loss_is_the_mean_over_all_groups_of_a_batch_and_falls(signals, tmp_path):
    (checkpoint,) = contrasted(signals, tmp_path).checkpoints()
    losses = pl.read_parquet(checkpoint.folder / "trace.parquet")["loss"]
    assert losses[-1] < losses[0]
    shards, objective = ArrayShards(signals), Contrastive(0)
    table = shards.index().select("ecg_id", site=pl.lit("s"))
    arrays, _ = next(Batches(arrays={"signals": {"s": shards}}, table=table).epoch(0, batch=12, seed=0))
    groups = [objective.micro_batch(arrays, range(first, first + 4), step=0, device="cpu") for first in (0, 4, 8)]
    by_hand = sum(float(objective.backward(objective.network, group, weight=1.0)) for group in groups) / 12
    assert losses[0] == pytest.approx(by_hand, abs=1e-6)
    config = checkpoint.config()
    assert (config["terms"], config["of_examples"]) == (9 * 12, 9 * 12)


@pytest.mark.parametrize("micro_batch_size", [1, 3, 4, 8, 100])
def test_no_size_of_micro_batches_divides_or_joins_groups(signals, tmp_path, micro_batch_size):
    objectives = []
    made = contrasted(signals, tmp_path / "a", objectives=objectives, micro_batch_size=micro_batch_size)
    whole = contrasted(signals, tmp_path / "b").checkpoints()[0].state()
    objective = objectives[-1]  # the first one counts operations
    assert {(places.start % 4, len(places)) for places in objective.seen} == {(0, 4)}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in made.checkpoints()[0].state().items())


def test_other_groups_are_another_loss(signals, tmp_path):
    four, two = (contrasted(signals, tmp_path / str(group), group=group).checkpoints()[0] for group in (4, 2))
    assert not torch.allclose(four.state()["weight"], two.state()["weight"], atol=1e-3)


def test_an_incomplete_last_group_is_whole_too(signals, tmp_path):
    objectives = []
    recipe = PretrainRecipe(epochs=1, batch=10, warmup_epochs=0)
    contrasted(signals, tmp_path, recipe=recipe, objectives=objectives, micro_batch_size=1)
    assert [(places.start, places.stop) for places in objectives[-1].seen[:3]] == [(0, 4), (4, 8), (8, 10)]


UNDER_TORCHRUN = """
import sys
from dataclasses import replace
from pathlib import Path
import pytest
from ecg_pipeline.training.distributed import init_process_group
from ecg_pipeline_tests.training.test_groups import RECIPE, contrasted
process_group, objectives = init_process_group("cpu"), []
out = Path(sys.argv[2])
with pytest.raises(ValueError, match="a batch has 1 x 4 examples for 2 processes"):
    contrasted(sys.argv[1], out / "too_small", recipe=replace(RECIPE, batch=4), process_group=process_group)
contrasted(sys.argv[1], out / "two", objectives=objectives, process_group=process_group, micro_batch_size=3)
assert {(places.start % 4, len(places)) for places in objectives[-1].seen} == {(0, 4)}
assert len(objectives[-1].seen) == 9 * (1 + process_group.rank)
"""


def test_two_processes_share_out_whole_groups_and_give_the_weights_of_one(signals, tmp_path):
    script = tmp_path / "run.py"
    script.write_text(UNDER_TORCHRUN)
    under_torchrun(script, signals, tmp_path)
    (one,) = contrasted(signals, tmp_path / "one").checkpoints()
    (two,) = PretrainedModel(tmp_path / "two").checkpoints()
    agree(one, two)
    assert one.config() == two.config()


def test_a_group_of_a_single_example_is_cut_as_asked(signals, tmp_path):
    objectives = []
    contrasted(signals, tmp_path, group=1, objectives=objectives, micro_batch_size=5)
    assert [len(places) for places in objectives[-1].seen[:3]] == [5, 5, 2]
