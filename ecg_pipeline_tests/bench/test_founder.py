"""Both sides of the comparison with ECGFounder train the same network."""

import pytest
import torch

from ecg_pipeline.bench.founder import steps
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe


def test_both_sides_have_the_same_losses_step_by_step():
    torch.set_num_threads(1)
    recipe = EcgFounderRecipe(base_filters=8, widths=(8, 12), blocks=(2, 2), kernel=8, groups_width=4)
    ours, theirs = steps(recipe, batch=4, samples=333, labels=6)
    losses = [ours() for _ in range(3)]
    assert [theirs() for _ in range(3)] == pytest.approx(losses, abs=1e-6)
    assert len(set(losses)) == 3
