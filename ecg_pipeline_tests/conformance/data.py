"""Checks of what a network sees and how it is judged: views of a sheet, the released code's split, the metrics."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ecg_pipeline.cohorts.official import official_fraction, official_parts
from ecg_pipeline.cohorts.splits import EXTERNAL, TEST, TRAIN
from ecg_pipeline.images.views import patch_view, token_view
from ecg_pipeline.metrics import discrimination as metrics
from ecg_pipeline.models import beit
from ecg_pipeline.models.family import normalised
from ecg_pipeline.models.recipes import IMAGENET_MEAN, IMAGENET_STD
from ecg_pipeline.tokens.pixels import map_pixels
from ecg_pipeline_tests.conformance.fixtures import Fixture, close

GREY_LEVEL = 1 / 255


def views(fixture: Fixture) -> None:
    """A sheet here is grey, the fixture's image is coloured: each of its channels is a sheet."""
    tensors = fixture.tensors
    sheets = tensors["input.image_uint8"].permute(2, 0, 1).contiguous().numpy()
    assert sheets.shape[1:] == (fixture.facts["size"],) * 2
    expected = tensors["output.patch_view"]
    patches = patch_view(sheets, expected.shape[-1])
    close(torch.from_numpy(patches), expected, 1e-6, "patch view")
    seen = token_view(sheets, tensors["output.token_view"].shape[-1])
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
    table = table.with_columns(official_parts(table))
    train = table.filter(pl.col("part") == TRAIN)
    for part, name in ((EXTERNAL, "external_rows"), (TRAIN, "train_rows"), (TEST, "test_rows")):
        rows = table.filter(pl.col("part") == part)["row"].to_list()
        assert rows == sorted(facts[name]), f"ECGs of the part {part}"
    for fraction, expected in facts["fractions"].items():
        rows = official_fraction(train, float(fraction))["row"].to_list()
        assert sorted(rows) == sorted(expected["train_rows"]), f"ECGs of the fraction {fraction}"
    judged = facts["metrics"]
    labels, scores = np.array(judged["labels"]), np.array(judged["scores"])
    for name, found in (
        ("auroc", metrics.auroc(labels, scores)),
        ("auprc_trapezoid", metrics.trapezoid_auprc(labels, scores)),
        ("average_precision", metrics.average_precision(labels, scores)),
    ):
        assert abs(found - judged[name]) <= 1e-12, name


def _normalised(levels: NDArray[np.uint8], mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """Each channel normalised as a grey sheet, of which the channel of the same number is kept."""
    shaped = [torch.tensor(values)[:, None, None] for values in (mean, std)]
    tripled = normalised(torch.from_numpy(levels), *shaped)
    return torch.stack([tripled[channel, channel] for channel in range(len(levels))])
