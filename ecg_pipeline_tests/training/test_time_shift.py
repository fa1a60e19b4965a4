"""Random shifts of training examples in time: each example is rolled by itself, by no more than the recipe says."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.training.finetune import shifted
from ecg_pipeline.training.recipes import FinetuneRecipe

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(1, 40))


@given(SHAPES, st.floats(0, 0.5), st.integers(0, 1000))
def test_each_example_is_rolled_by_at_most_the_share(shape, share, seed):
    examples = torch.arange(torch.tensor(shape).prod()).reshape(shape)
    torch.manual_seed(seed)
    found = shifted(examples, share)
    most = round(share * shape[-1])
    for before, after in zip(examples, found, strict=True):
        assert any(torch.equal(before.roll(by, -1), after) for by in range(-most, most + 1))
    torch.manual_seed(seed)
    assert torch.equal(shifted(examples, share), found)


def test_images_are_shifted_along_their_columns_and_stay_bytes():
    images = torch.arange(224, dtype=torch.uint8).expand(64, 8, 224)
    torch.manual_seed(0)
    found = shifted(images, 0.036)
    assert found.dtype == torch.uint8
    by = {int(image[0].argmin()) for image in found}
    assert {0 if first < 112 else 1 for first in by} == {0, 1}  # to both sides
    assert max(min(first, 224 - first) for first in by) == 8


def test_without_a_shift_nothing_is_drawn():
    examples = torch.ones(2, 3, 4)
    torch.manual_seed(0)
    assert shifted(examples, 0.0) is examples
    assert torch.initial_seed() == 0
    assert torch.equal(torch.rand(1), torch.rand(1, generator=torch.Generator().manual_seed(0)))


def test_a_shift_by_more_than_half_is_refused():
    with pytest.raises(RecipeError, match="time_shift"):
        FinetuneRecipe(time_shift=0.6)
