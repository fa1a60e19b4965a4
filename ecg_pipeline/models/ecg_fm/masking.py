"""What is random in ECG-FM's pretraining: masked leads, masked spans of frames, and the negatives of each target."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.models.ecg_fm.recipes import LeadMaskRecipe, SpanMaskRecipe

LEAST_SPANS = 2


def sample_lead_masks(
    recipe: LeadMaskRecipe, rng: np.random.Generator, *, segments: int, leads: int
) -> NDArray[np.bool_]:
    """Which leads of each segment are set to 0: (segments, leads) bool. All of a segment's may be."""
    is_masked = rng.random((segments, 1)) < recipe.probability
    return is_masked & (rng.random((segments, leads)) < recipe.share)


def sample_span_masks(
    recipe: SpanMaskRecipe, rng: np.random.Generator, *, segments: int, frames: int, recorded: NDArray | None = None
) -> NDArray[np.bool_]:
    """Masked frames of the segments of a group: (segments, frames) bool, equally many in each segment.

    A segment has recipe.share * frames / recipe.length spans, rounded at random, once for the group, but at least
    `LEAST_SPANS`. They may overlap. The last frame is in none of them. Of the segments with more masked frames than
    others, random ones are then unmasked.
    recorded: (segments,) frames that are no padding, if some are; the number of spans is then rounded for each segment.
    """
    of = np.full(segments, frames) if recorded is None else np.asarray(recorded)
    rounding = rng.random(1 if recorded is None else segments)
    spans = np.maximum(LEAST_SPANS, np.floor(recipe.share * of / recipe.length + rounding))
    starts = _lowest(rng, np.arange(frames) < (of - recipe.length)[:, None], spans)
    mask = np.zeros((segments, frames), bool)
    for offset in range(recipe.length):
        mask[:, offset:] |= starts[:, : frames - offset]
    return _lowest(rng, mask, np.full(segments, mask.sum(axis=1).min()))


def sample_negatives(rng: np.random.Generator, *, segments: int, masked: int, negatives: int) -> NDArray[np.int64]:
    """For each masked frame, which other masked frames of its segment are negatives, with replacement.

    Returns (segments, masked, negatives): places among the segment's masked frames.
    """
    others = rng.integers(0, masked - 1, (segments, masked, negatives))
    return others + (others >= np.arange(masked)[:, None])


def _lowest(rng: np.random.Generator, allowed: NDArray[np.bool_], counts: NDArray) -> NDArray[np.bool_]:
    """Of each row's allowed places, a random choice of so many: (rows, places) bool."""
    keys = np.where(allowed, rng.random(allowed.shape), np.inf)
    ranks = keys.argsort(axis=1).argsort(axis=1)
    return allowed & (ranks < counts[:, None])
