"""A synthetic example image, for places that must not show a patient's ECG."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.signals.filters import FilterRecipe, clean

SEED = 1


def example_images(sheet: SheetRecipe, filters: FilterRecipe) -> NDArray[np.uint8]:
    """A synthetic ECG, filtered and rendered as a study's ECGs are: (1, H, W) uint8, 255 = paper. Always the same."""
    from ecg_pipeline.images.render import render_many
    from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate

    rng = np.random.default_rng(SEED)
    heart = sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng)
    x_mv, _, _ = simulate(heart, seconds=filters.seconds, sampling_hz=filters.sampling_hz, rng=rng)
    return render_many(clean(x_mv[None, :, : filters.samples], filters), sheet)
