"""Operations of a training step, against counts by hand."""

import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

from ecg_pipeline.training.cost import step_cost
from ecg_pipeline_tests.training.small import SHORT, SIDE, TINY, VOCABULARY, pretrained
from ecg_pipeline_tests.training.test_finetune import tuned


def test_products_are_counted_forward_and_backward_times_the_steps():
    network = nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 3, bias=False))
    first, second = 2 * 4 * 6 * 5, 2 * 4 * 5 * 3
    # Backward of a layer is two products, but nobody asks for the gradient of the input.
    found = step_cost(network, lambda: network(torch.ones(4, 6)).sum().backward(), steps=7)
    assert found == {"parameters": 30 + 5 + 10 + 15, "flops": 7 * (2 * first + 3 * second)}


def test_attention_and_convolutions_are_counted():
    """A fused attention that PyTorch did not count would make transformers look cheap."""
    q = torch.ones(2, 3, 8, 4, requires_grad=True)
    attention = step_cost(nn.Identity(), lambda: scaled_dot_product_attention(q, q, q), steps=1)
    assert attention["flops"] == 2 * (2 * 2 * 3 * 8 * 8 * 4)
    conv = nn.Conv1d(4, 6, 5, groups=2)
    convolution = step_cost(conv, lambda: conv(torch.ones(3, 4, 20)), steps=1)
    assert convolution["flops"] == 2 * 3 * 16 * 6 * (4 // 2) * 5


def test_counting_changes_no_weight_and_no_random_number():
    network = nn.Sequential(nn.Linear(6, 5), nn.Dropout(0.5))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    step_cost(network, lambda: network(torch.ones(4, 6)).sum().backward(), steps=1)
    assert torch.equal(torch.rand(4), expected)


def test_pretraining_and_fine_tuning_state_the_cost_of_a_seed(examples, tmp_path):
    start = pretrained(examples, tmp_path / "start", recipe=SHORT)
    config = start.config()
    products = 12 * TINY.width**2 * TINY.depth * (SIDE // TINY.patch_px) ** 2
    assert 6 * products < config["flops"] / (6 * 6 * 8) < 10 * products, "six operations a weight, patch and example"
    assert start.checkpoints()[0].config()["flops"] == config["flops"]
    assert config["parameters"] > 12 * TINY.width**2 * TINY.depth + TINY.width * VOCABULARY
    once, twice = (tuned(examples, tmp_path / str(n), start=start, epochs=n).config() for n in (1, 2))
    assert 0 < 2 * once["flops"] == twice["flops"]
    assert once["parameters"] == pytest.approx(config["parameters"], rel=0.1)
