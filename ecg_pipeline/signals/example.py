"""A synthetic example window, for places that must not show a patient's ECG."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.leads import derive
from ecg_pipeline.signals.windows import WindowRecipe, cut_windows

SEED = 1

RECORDED_HZ, RECORDED_SECONDS = 500, 10
"""Rate and least length of the recording: those of a resting ECG."""


def example_window(recipe: WindowRecipe) -> NDArray[np.float32]:
    """A synthetic ECG, cut as a study's ECGs are: its first window, (1, L, T) float32. Always the same."""
    from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate

    rng = np.random.default_rng(SEED)
    heart = sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng)
    # A second more than a window, so that no rounding makes it too short.
    seconds = max(RECORDED_SECONDS, recipe.seconds + 1)
    x_mv, _, _ = simulate(heart, seconds=seconds, sampling_hz=RECORDED_HZ, rng=rng)
    chosen_mv = derive(x_mv)[[LEADS.index(lead) for lead in recipe.leads]]
    return cut_windows(chosen_mv[None], RECORDED_HZ, recipe)[:, 0]
