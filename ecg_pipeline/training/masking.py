"""Which patches a network must guess: BEiT's blockwise masks, or patches drawn one by one.

Blockwise masks prefer the centre: over many draws a corner patch is hidden 4 times in 100, a central one 72 times. On
an ECG sheet the border is hardly ever a target, so the uniform mask is there to compare with.
"""

from math import exp, log, sqrt
from random import Random

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.training.recipes import MaskRecipe

ATTEMPTS = 10


def draw_masks(seed: int, step: int, images: range, rows: int, columns: int, recipe: MaskRecipe) -> NDArray[np.bool_]:
    """(len(images), P) bool, row-major, True where a patch is hidden, for these images of a step's batch.

    A mask is a function of seed, step and the image's place in the batch, whoever draws it.
    """
    draw = blockwise if recipe.kind == "blockwise" else uniform
    drawn = [draw(Random(f"{seed}:{step}:{place}"), rows, columns, recipe) for place in images]  # noqa: S311
    return np.array(drawn, bool).reshape(len(images), rows * columns)


def uniform(random: Random, rows: int, columns: int, recipe: MaskRecipe) -> NDArray[np.bool_]:
    """(rows, columns) bool with exactly `recipe.patches` hidden, each set of them as likely."""
    mask = np.zeros(rows * columns, bool)
    mask[random.sample(range(mask.size), min(recipe.patches, mask.size))] = True
    return mask.reshape(rows, columns)


def blockwise(random: Random, rows: int, columns: int, recipe: MaskRecipe) -> NDArray[np.bool_]:
    """(rows, columns) bool with at most `recipe.patches` hidden, block after block.

    It ends short of the target when no block finds a place in ten attempts, as BEiT's own generator does.
    """
    mask = np.zeros((rows, columns), bool)
    largest = recipe.largest_block or recipe.patches
    while (left := recipe.patches - int(mask.sum())) > 0:
        if not _place_block(random, mask, min(left, largest), recipe):
            break
    return mask


def _place_block(random: Random, mask: NDArray[np.bool_], budget: int, recipe: MaskRecipe) -> bool:
    """Hide one more block, of at most `budget` patches that were not hidden, or say that none was found."""
    rows, columns = mask.shape
    for _ in range(ATTEMPTS):
        area = random.uniform(recipe.smallest_block, budget)
        ratio = exp(random.uniform(log(recipe.aspect), log(1 / recipe.aspect)))
        height, width = round(sqrt(area * ratio)), round(sqrt(area / ratio))
        if height >= rows or width >= columns:
            continue
        top, side = random.randint(0, rows - height), random.randint(0, columns - width)
        block = mask[top : top + height, side : side + width]
        if 0 < block.size - block.sum() <= budget:
            block[:] = True
            return True
    return False
