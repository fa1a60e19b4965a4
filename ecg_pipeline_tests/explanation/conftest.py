"""Images, and a network of each family of images."""

import numpy as np
import pytest

from ecg_pipeline.models.load import build_classifier
from ecg_pipeline_tests.explanation.networks import RECIPES, perturb


@pytest.fixture(scope="session")
def images():
    rng = np.random.default_rng(0)
    images = np.full((2, 224, 224), 255, np.uint8)
    images[:, 30:200:20] = rng.integers(0, 255, (2, 9, 224))
    return images


@pytest.fixture(scope="module", params=RECIPES)
def classifier(request):
    """A network in which every weight, bias and running mean is other than at the start."""
    return perturb(build_classifier(RECIPES[request.param], None, seed=0))
