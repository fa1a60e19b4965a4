"""Images that a network can learn something from in seconds."""

import numpy as np
import pytest

from ecg_pipeline_tests.training.small import VOCABULARY, bars, ink_tokens, names, table_of, write_view


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """(images, tokens, table): a bar at one of two heights is the label; a token is a patch's mean ink."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 48)
    images = bars(labels, rng)
    folder = tmp_path_factory.mktemp("examples")
    view = write_view(folder / "images", np.split(images, 3))
    tokens = write_view(folder / "tokens", np.split(ink_tokens(images), 3), vocabulary=VOCABULARY)
    return view, tokens, table_of(names(3, 16), labels.tolist())
