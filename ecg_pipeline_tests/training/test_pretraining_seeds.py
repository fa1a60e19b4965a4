"""One pretrained network a seed, and which of them fine-tuning starts from."""

from dataclasses import replace

import pytest
import torch

from ecg_pipeline.models.load import build_classifier
from ecg_pipeline.storage.files import sha256_file, write_json
from ecg_pipeline.training.checkpoints import PUBLISHED, Checkpoint, PretrainedModel
from ecg_pipeline_tests.training.small import SHORT, TINY, pretrained

BRIEF = replace(SHORT, epochs=2)
STEPS = 2 * 6


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def digest(checkpoint):
    return sha256_file(checkpoint.folder / "weights.safetensors")


class Curves:
    """A tracker that stores what is logged."""

    def __init__(self):
        self.logged, self.names = [], set()

    def parameters(self, values):
        self.logged.append(values)

    def metrics(self, step, values):
        self.names |= values.keys()


def test_each_seed_is_pretrained_as_if_alone_and_chosen_by_its_number(examples, tmp_path):
    tracker = Curves()
    both = pretrained(examples, tmp_path / "both", recipe=replace(BRIEF, seeds=(3, 1)), tracker=tracker)
    assert both.config()["checkpoints"] == ["seed_3", "seed_1"]
    three, one = both.checkpoints()
    assert (three.config()["seed"], one.config()["seed"]) == (3, 1)
    assert (both.start(3), both.start(1)) == (three, one)
    alone = pretrained(examples, tmp_path / "alone", recipe=replace(BRIEF, seeds=(1,)))
    assert digest(alone.checkpoints()[0]) == digest(one) != digest(three)
    with pytest.raises(ValueError, match="several pretrained networks, but none of seed 0"):
        both.start(0)
    assert {name.partition("/")[0] for name in tracker.names} == {"seed_3", "seed_1"}
    assert {"seed_1/loss", "seed_1/examples_per_second"} <= tracker.names
    assert len(tracker.logged) == 1


def test_a_classifier_starts_from_the_network_of_its_seed(examples, tmp_path):
    both = pretrained(examples, tmp_path, recipe=replace(BRIEF, seeds=(0, 1)))
    name = "blocks.1.mlp.fc1.weight"
    for seed in (0, 1):
        network = build_classifier(TINY, both.start(seed), seed=seed).network
        assert torch.equal(network.get_parameter(name), both.checkpoints()[seed].state()[name])
    assert not torch.equal(both.checkpoints()[0].state()[name], both.checkpoints()[1].state()[name])


def test_the_only_network_is_every_seeds_start(examples, tmp_path):
    model = pretrained(examples, tmp_path / "own", recipe=BRIEF)
    assert {model.start(seed) for seed in (0, 1, 7)} == set(model.checkpoints())
    write_json(tmp_path / "taken_over" / "config.json", {"checkpoints": [PUBLISHED]})
    published = PretrainedModel(tmp_path / "taken_over")
    assert published.start(5) == Checkpoint(tmp_path / "taken_over" / PUBLISHED)


def test_a_seed_that_is_complete_is_not_pretrained_again(examples, tmp_path):
    recipe, done_before = replace(BRIEF, seeds=(0, 1)), []

    def until_the_second_seed(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrained(examples, tmp_path / "cut", recipe=recipe, progress=until_the_second_seed)
    assert not (tmp_path / "cut" / "config.json").exists()
    cut = pretrained(examples, tmp_path / "cut", recipe=recipe, progress=lambda done, total: done_before.append(done))
    assert done_before == [BRIEF.batch * step for step in range(STEPS + 1, 2 * STEPS + 1)]
    whole = pretrained(examples, tmp_path / "whole", recipe=recipe)
    assert [digest(made) for made in cut.checkpoints()] == [digest(made) for made in whole.checkpoints()]


def test_a_state_that_a_kill_left_beside_a_complete_seed_is_deleted(examples, tmp_path):
    (checkpoint,) = pretrained(examples, tmp_path, recipe=BRIEF).checkpoints()
    before = digest(checkpoint)
    left = checkpoint.folder / ".run_state.pt"
    left.write_bytes(b"of the last step")
    (again,) = pretrained(examples, tmp_path, recipe=BRIEF).checkpoints()
    assert digest(again) == before
    assert not left.exists()
