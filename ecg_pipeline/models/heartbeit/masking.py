"""Masks for masked image modelling: BEiT's blockwise masks, or patches sampled uniformly.

Blockwise masks prefer the centre: over many samples a corner patch is masked 4 times in 100, a central one 72 times. So
the border of an ECG image is hardly ever a target; the uniform mask is provided for comparison.
"""

from math import exp, log, sqrt
from random import Random

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.models.heartbeit.recipes import MaskRecipe

ATTEMPTS = 10
"""Attempts to place one more block before the mask is returned with fewer patches."""


def sample_masks(
    recipe: MaskRecipe, images: range, *, seed: int, step: int, rows: int, columns: int
) -> NDArray[np.bool_]:
    """Masks of some images of a step's batch: (len(images), P) bool, patches row-major, True where masked.

    images: indices within the batch. A mask depends on seed, step and that index, not on which process samples it.
    """
    sample = blockwise if recipe.kind == "blockwise" else uniform
    masks = [
        sample(Random(f"{seed}:{step}:{place}"), recipe, rows=rows, columns=columns)  # noqa: S311
        for place in images
    ]
    return np.array(masks, bool).reshape(len(images), rows * columns)


def uniform(random: Random, recipe: MaskRecipe, *, rows: int, columns: int) -> NDArray[np.bool_]:
    """A uniform mask (rows, columns) bool: exactly `recipe.patches` masked, every set of patches equally likely."""
    mask = np.zeros(rows * columns, bool)
    mask[random.sample(range(mask.size), min(recipe.patches, mask.size))] = True
    return mask.reshape(rows, columns)


def blockwise(random: Random, recipe: MaskRecipe, *, rows: int, columns: int) -> NDArray[np.bool_]:
    """A blockwise mask (rows, columns) bool: rectangles are added until `recipe.patches` are masked.

    As in BEiT's own generator, fewer are masked if no further block fits within `ATTEMPTS` attempts.
    """
    mask = np.zeros((rows, columns), bool)
    largest = recipe.largest_block or recipe.patches
    while (left := recipe.patches - int(mask.sum())) > 0:
        if not _place_block(random, mask, min(left, largest), recipe):
            break
    return mask


def _place_block(random: Random, mask: NDArray[np.bool_], budget: int, recipe: MaskRecipe) -> bool:
    """Mask one more block that adds at most `budget` patches; False if no attempt found one."""
    rows, columns = mask.shape
    for _ in range(ATTEMPTS):
        area = random.uniform(recipe.smallest_block, budget)
        ratio = exp(random.uniform(log(recipe.aspect), log(1 / recipe.aspect)))
        height, width = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if height >= rows or width >= columns:
            continue
        top, left = random.randint(0, rows - height), random.randint(0, columns - width)
        block = mask[top : top + height, left : left + width]
        if 0 < block.size - block.sum() <= budget:
            block[:] = True
            return True
    return False
