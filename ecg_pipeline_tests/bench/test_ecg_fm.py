"""Both sides of the comparisons with ECG-FM compute the same, and the floor is all products of a step."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ecg_pipeline.bench.ecg_fm import contrasts, steps
from ecg_pipeline.bench.products import products_of
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe

TINY = EcgFmRecipe(
    leads=3,
    conv_widths=(8, 8),
    conv_kernels=(3, 2),
    conv_strides=(2, 2),
    width=12,
    depth=2,
    heads=2,
    mlp_width=16,
    position_kernel=4,
    position_groups=2,
    codes=4,  # so few that many negatives have the code of the target
    contrast_width=8,
)
PRETRAINING = EcgFmPretraining(negatives=7, learning_rate=1e-3)


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


def test_both_sides_have_the_same_losses_step_by_step():
    ours, theirs = steps(TINY, PRETRAINING, segments=6, samples=200)
    losses = [ours() for _ in range(4)]
    assert [theirs() for _ in range(4)] == pytest.approx(losses, rel=2e-6)
    assert losses == sorted(losses, reverse=True)


def test_both_sides_have_the_same_contrast():
    ours, theirs = contrasts(segments=3, masked=20, width=8, negatives=10, codes=5)
    assert theirs() == pytest.approx(ours(), rel=1e-5)


def test_the_floor_has_all_products_of_a_step():
    ours, _ = steps(TINY, PRETRAINING, segments=4, samples=200)
    assert _operations(products_of(ours)) == _operations(ours) > 0


def _operations(call):
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
