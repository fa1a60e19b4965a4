"""Labels, scores and patients that the tests of this folder draw."""

import numpy as np
from hypothesis import strategies as st

AREAS = ("auroc", "average_precision")
"""Metrics that scikit-learn has, too."""

SCORES = [0.0, 0.1, 0.25, 0.5, 0.50001, 0.9, 1.0]


@st.composite
def scored(draw, seeds=1, fewest=2):
    """labels (n,) with both classes, scores (seeds, n) with many ties, patients (n,)."""
    n = draw(st.integers(fewest, 60))
    labels = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda x: 0 < sum(x) < len(x)))
    scores = draw(st.lists(st.sampled_from(SCORES), min_size=seeds * n, max_size=seeds * n))
    patients = draw(st.lists(st.integers(0, max(1, n // 2)), min_size=n, max_size=n))
    return np.array(labels), np.array(scores).reshape(seeds, n), np.array([f"p{number:02d}" for number in patients])


def binormal(rng, n, separation=1.0, prevalence=0.3):
    """labels (n,) and probabilities (n,) of a score that is normal in both classes."""
    labels = (rng.random(n) < prevalence).astype(np.int8)
    return labels, 1 / (1 + np.exp(-(rng.normal(size=n) + separation * labels - 1)))
