"""Waveforms, recipes of windows, and what their laws are tried on."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from ecg_pipeline.signals.window_filters import BandPass, NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe

RECIPE = WindowRecipe(seconds=2.0)
ECG_FM = WindowRecipe(resampling="linear", seconds=5.0, crop="all", standardise="lead")
LAW = settings(max_examples=40, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
RATES = st.sampled_from([100, 250, 257, 300, 500, 977, 1000])
FILTERS = st.sampled_from([None, BandPass(), NotchBandPassMedian()])


def noise(*shape, seed=0):
    """A random walk in millivolts."""
    return np.random.default_rng(seed).normal(0, 0.05, shape).cumsum(axis=-1).astype(np.float32)
