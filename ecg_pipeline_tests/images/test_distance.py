"""The image distance is scipy's, and a distance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance

from ecg_pipeline.images.distance import mean_distance_within, pairwise


def images_of(seed, n=3):
    rng = np.random.default_rng(seed)
    return rng.integers(rng.integers(0, 100), rng.integers(101, 257), (n, 224, 224)).astype(np.uint8)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_image_distance_is_scipys(seed):
    images = np.concatenate([images_of(seed), images_of(seed + 1, 1)])
    distances = pairwise(images, images)
    for i, j in ((0, 1), (0, 3), (2, 3)):
        expected = wasserstein_distance(images[i].reshape(-1), images[j].reshape(-1))
        assert distances[i, j] == pytest.approx(expected, abs=1e-9)
    np.testing.assert_array_equal(distances, distances.T)
    assert (np.diag(distances) == 0).all()


def test_white_and_black_are_a_whole_scale_apart():
    white, black = np.full((1, 224, 224), 255, np.uint8), np.zeros((1, 224, 224), np.uint8)
    assert pairwise(white, black)[0, 0] == 255


def test_an_images_distance_to_itself_is_no_pair():
    images = images_of(0)
    a, b, c = (pairwise(images[[i]], images[[j]])[0, 0] for i, j in ((0, 1), (0, 2), (1, 2)))
    assert mean_distance_within(images) == pytest.approx((a + b + c) / 3, abs=1e-9)
