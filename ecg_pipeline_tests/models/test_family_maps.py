"""Maps and second views of every family that is explained."""

import numpy as np
import pytest
import torch

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.explanation.attribution import full_gradient
from ecg_pipeline.explanation.second_views import SECOND_VIEWS
from ecg_pipeline.explanation.surfaces import Sheet, Traces
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline_tests.models.examples import (
    SAMPLES,
    of_families,
    perturbed,
)


def test_a_map_sums_to_the_difference_from_a_blank_example_or_there_is_none(example):
    if not example.family.is_explained:
        pytest.skip("the family declines: its ECGs are not explained")
    classifier = perturbed(example.classifier())
    stored = example.stored[:2]
    found = full_gradient(classifier, stored)
    assert found.maps.shape == (2, *stored.shape[1:])
    blank = torch.full_like(torch.from_numpy(stored[:1]), classifier.blank)
    with torch.inference_mode():
        margin = (classifier(torch.from_numpy(stored)) - classifier(blank))[:, 0].numpy()
    assert np.abs(margin).max() > 1e-3
    np.testing.assert_allclose(found.margin, margin, atol=1e-4)
    np.testing.assert_allclose(found.maps.sum((1, 2)) + found.elsewhere, margin, atol=1e-4)
    assert found.error.max() < 1e-9


@of_families(lambda family: family.second_view is not None)
def test_the_second_view_of_a_family_is_a_strength_in_each_example(example):
    view, stored = SECOND_VIEWS[example.family.second_view], example.stored[:2]
    values = view.compute(perturbed(example.classifier()), stored)
    if values is None:
        return  # this network of the family has no attention
    assert len(values) == 2
    is_image = example.row.recipe.view == IMAGES
    surface = Sheet(SheetRecipe(), seconds=5) if is_image else Traces(LEADS, samples=SAMPLES, sampling_hz=100)
    for one in values:
        strength = view.strength(one, surface)
        assert strength.shape[0] == (stored.shape[1] if is_image else 1)
        assert 0 <= strength.min() <= strength.max() <= 1
        assert view.title(one)
