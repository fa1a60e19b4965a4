"""Both sides of the comparison with D-BETA compute the same."""

import pytest
import torch

from ecg_pipeline.bench.d_beta import steps
from ecg_pipeline_tests.models.test_d_beta import TINY


def test_both_sides_have_the_same_losses_step_by_step():
    torch.set_num_threads(1)
    ours, theirs = steps(TINY, lengths=(3, 6, 9, 14), samples=83, vocabulary=40)
    losses = [ours() for _ in range(4)]
    assert [theirs() for _ in range(4)] == pytest.approx(losses, rel=1e-5)
    assert losses[-1] < losses[0]
