"""Attention rollout: shares of the image in the token that is classified."""

import numpy as np
import pytest
import torch

from ecg_pipeline.explanation.rollout import combine_attention, has_attention, rollout
from ecg_pipeline.models.load import build_classifier
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline_tests.explanation.networks import RECIPES, of_size


def test_rollout_shares_out_the_whole_of_a_token(classifier, images):
    images = of_size(classifier, images)
    if not has_attention(classifier):
        with pytest.raises(ValueError, match="no attention"):
            rollout(classifier, images)
        return
    maps = rollout(classifier, images)
    assert maps.shape == images.shape
    assert maps.min() > 0
    assert (maps.sum((1, 2)) <= 1 + 1e-9).all()
    assert (maps.sum((1, 2)) > 0.5).all()


def test_rolled_out_rows_sum_to_one():
    weights = [torch.rand(2, 3, 5, 5).softmax(-1) for _ in range(4)]
    rolled = combine_attention(weights)
    torch.testing.assert_close(rolled.sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (rolled > 0).all()
    nobody = combine_attention([torch.eye(5).expand(2, 3, 5, 5)] * 4)
    torch.testing.assert_close(nobody[0], torch.eye(5, dtype=torch.float64))


def test_rollout_is_the_same_with_fused_attention_and_without(images):
    made = build_classifier(RECIPES["vit"], None, seed=0)
    fused = rollout(made, images)
    for block in made.network.blocks:
        block.attn.fused_attn = False
    np.testing.assert_allclose(rollout(made, images), fused, rtol=1e-5)


def test_a_network_on_waveforms_has_no_attention():
    assert not has_attention(build_classifier(SmallCnnRecipe(), None, seed=0))
