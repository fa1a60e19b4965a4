"""The sheet of an invented heart, for wherever a sheet is shown and no patient's may be."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.signals.filters import FilterRecipe, clean

SEED = 1


def example_sheets(sheet: SheetRecipe, filters: FilterRecipe) -> NDArray[np.uint8]:
    """(1, H, W) uint8, 255 = paper: a synthetic ECG, filtered and rendered as a study's ECGs are. Always the same."""
    from ecg_pipeline.images.render import render_many
    from ecg_pipeline.synthetic.heart import draw_heart, draw_person, record

    rng = np.random.default_rng(SEED)
    heart = draw_heart(draw_person(rng), "none", 0.0, rng)
    x_mv, _, _ = record(heart, filters.seconds, filters.sampling_hz, rng)
    return render_many(clean(x_mv[None, :, : filters.samples], filters), sheet)
