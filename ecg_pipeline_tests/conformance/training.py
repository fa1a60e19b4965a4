"""Checks of what a network is trained by: masks and schedules."""

from math import sqrt
from random import Random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ecg_pipeline.models.heartbeit.masking import blockwise
from ecg_pipeline.models.heartbeit.recipes import MaskRecipe
from ecg_pipeline.training.schedules import one_cycle, warmup_cosine
from ecg_pipeline_tests.conformance.fixtures import Fixture


def masking(fixture: Fixture) -> None:
    """In distribution: number of hidden patches, how often each is, and how often neighbours are together."""
    for case in fixture.facts["cases"]:
        config, draws, count = case["config"], case["draws"], case["mask_count"]
        masks = _sample(config, case["seed"], draws)
        hidden = masks.sum(axis=(1, 2))
        assert hidden.max() <= config["num_masking_patches"]
        error = sqrt(hidden.var() / draws + count["sd"] ** 2 / draws)
        assert abs(hidden.mean() - count["mean"]) <= 4 * error + 1e-9, "mean number of hidden patches"
        full = (hidden == config["num_masking_patches"]).mean()
        assert _agree(full, np.array(count["fraction_full"]), draws, 4), "share of masks that reach the target"
        expected = np.array(case["patch_frequency"]["map"])
        assert _agree(masks.mean(axis=0), expected, draws, 4.5), "how often each patch is hidden"
        pairs = {"horizontal": masks[:, :, 1:] & masks[:, :, :-1], "vertical": masks[:, 1:] & masks[:, :-1]}
        for direction, both in pairs.items():
            share = both.mean(axis=(1, 2))
            difference = abs(share.mean() - case["neighbour_joint_probability"][direction])
            assert difference <= 4 * share.std() * sqrt(2 / draws) + 1e-9, f"{direction} neighbours"


def masking_exact(fixture: Fixture) -> None:
    for case in fixture.facts["cases"]:
        expected = np.array([[cell == "1" for cell in mask] for mask in case["masks_row_major"]])
        masks = _sample(case, case["python_random_seed"], len(expected))
        assert np.array_equal(masks.reshape(len(masks), -1), expected), f"masks of seed {case['python_random_seed']}"


def schedules(fixture: Fixture) -> None:
    for case in fixture.facts["cosine"]:
        arguments = case["args"]
        epochs, steps = arguments["epochs"], arguments["niter_per_ep"]
        warmup = arguments["warmup_epochs"]
        if arguments["warmup_steps"] > 0:
            epochs, steps, warmup = epochs * steps, 1, arguments["warmup_steps"]
        rates = warmup_cosine(
            peak=arguments["base_value"],
            final=arguments["final_value"],
            epochs=epochs,
            steps_per_epoch=steps,
            warmup_epochs=warmup,
        )
        np.testing.assert_allclose(rates, case["values"], atol=1e-9, rtol=0)
    cycle = fixture.facts["onecycle"]
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=cycle["optimizer_lr_argument"])
    schedule = one_cycle(
        optimiser, peak=cycle["max_lr"], epochs=cycle["epochs"], steps_per_epoch=cycle["steps_per_epoch"]
    )
    rates, momenta = [], []
    for _ in cycle["lr"]:
        rates.append(optimiser.param_groups[0]["lr"])
        momenta.append(optimiser.param_groups[0]["betas"][0])
        optimiser.step()
        if len(rates) < len(cycle["lr"]):
            schedule.step()
    assert len(rates) == cycle["epochs"] * cycle["steps_per_epoch"]
    np.testing.assert_allclose(rates, cycle["lr"], atol=1e-9, rtol=0)
    np.testing.assert_allclose(momenta, cycle["beta1"], atol=1e-9, rtol=0)


def _sample(config: dict[str, Any], seed: int, draws: int) -> NDArray[np.bool_]:
    """(draws, rows, columns)."""
    recipe = MaskRecipe(
        patches=config["num_masking_patches"],
        smallest_block=config["min_num_patches"],
        largest_block=config.get("max_num_patches"),
        aspect=config["min_aspect"],
    )
    random = Random(seed)
    return np.stack([blockwise(random, recipe, rows=config["height"], columns=config["width"]) for _ in range(draws)])


def _agree(found: NDArray, expected: NDArray, draws: int, errors: float) -> bool:
    """Whether shares of two samples of as many draws lie within so many standard errors of their difference."""
    pooled = (found + expected) / 2
    return bool((np.abs(found - expected) <= errors * np.sqrt(2 * pooled * (1 - pooled) / draws) + 1e-12).all())
