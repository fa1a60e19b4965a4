"""Checks of the views of an image, the released code's split, and the metrics."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ecg_pipeline.cohorts.splits import EXTERNAL, TEST, TRAIN
from ecg_pipeline.metrics.counts import counts
from ecg_pipeline.metrics.discrimination import auroc, average_precision, trapezoid_auprc
from ecg_pipeline.models.comparators.recipes import IMAGENET_MEAN, IMAGENET_STD
from ecg_pipeline.models.heartbeit import beit
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.tokens.pixels import map_pixels, token_view
from ecg_pipeline_tests.conformance.fixtures import Fixture, close
from ecg_pipeline_tests.conformance.released.splits import official_fraction, official_splits
from ecg_pipeline_tests.conformance.released.views import patch_view

GREY_LEVEL = 1 / 255


def views(fixture: Fixture) -> None:
    """The pipeline's images are grey, the fixture's is coloured: each of its channels is taken as a grey image."""
    tensors = fixture.tensors
    images = tensors["input.image_uint8"].permute(2, 0, 1).contiguous().numpy()
    assert images.shape[1:] == (fixture.facts["size"],) * 2
    expected = tensors["output.patch_view"]
    patches = patch_view(images, expected.shape[-1])
    close(torch.from_numpy(patches), expected, 1e-6, "patch view")
    seen = token_view(images, tensors["output.token_view"].shape[-1])
    close(map_pixels(torch.from_numpy(seen)), tensors["output.token_view"], 1e-6, "token view")
    levels = np.round((patches + 1) / 2 / GREY_LEVEL).astype(np.uint8)
    close(_normalised(levels, beit.MEAN, beit.STD), tensors["output.finetune_vit"], 1e-6, "classifier's input")
    corner = tensors["output.finetune_cnn_corner"]
    found = _normalised(levels, IMAGENET_MEAN, IMAGENET_STD)[:, : corner.shape[1], : corner.shape[2]]
    close(found, corner, 1e-6, "comparator's input")


def protocol(fixture: Fixture) -> None:
    facts = fixture.facts
    official = pl.DataFrame(facts["table"])
    table = official.select(patient="MRN", site="SITENAME", label="LABEL").with_row_index("row")
    table = table.with_columns(official_splits(table))
    train = table.filter(pl.col("split") == TRAIN)
    for split, name in ((EXTERNAL, "external_rows"), (TRAIN, "train_rows"), (TEST, "test_rows")):
        rows = table.filter(pl.col("split") == split)["row"].to_list()
        assert rows == sorted(facts[name]), f"ECGs of the split {split}"
    for fraction, expected in facts["fractions"].items():
        rows = official_fraction(train, float(fraction))["row"].to_list()
        assert sorted(rows) == sorted(expected["train_rows"]), f"ECGs of the fraction {fraction}"
    judged = facts["metrics"]
    counted = counts(np.array(judged["labels"]), np.array(judged["scores"]))
    for name, found in (
        ("auroc", auroc(counted)),
        ("auprc_trapezoid", trapezoid_auprc(counted)),
        ("average_precision", average_precision(counted)),
    ):
        assert abs(found - judged[name]) <= 1e-12, name


def _normalised(levels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Each channel normalised as a grey image, of whose three channels the one of the same number is returned."""
    tripled = normalise(torch.from_numpy(levels), mean=mean, std=std)
    return torch.stack([tripled[channel, channel] for channel in range(len(levels))])
