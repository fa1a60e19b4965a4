"""Each group has its own figure, or a reason why not."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.evaluation.subgroups import SCHEMA, subgroups
from ecg_pipeline.metrics.bootstrap import intervals
from ecg_pipeline_tests.metrics.cases import binormal


@pytest.fixture
def tables():
    """(predictions, scores of two seeds, records) of 400 ECGs of 200 patients, few of whom are over 80."""
    rng = np.random.default_rng(0)
    labels, scores = binormal(rng, 400)
    names = [f"r{number:03d}" for number in range(400)]
    patients = [f"p{number // 2:03d}" for number in range(400)]
    predictions = pl.DataFrame({"ecg_id": names, "site": "msh", "patient": patients, "label": labels})
    records = pl.DataFrame(
        {
            "ecg_id": names,
            "site": "msh",
            "age_years": [30.0] * 100 + [40.0] * 100 + [59.9] * 100 + [60.0] * 95 + [90.0] * 3 + [None] * 2,
            "sex": ["F", "M", "M", None] * 100,
            "device": "MAC",
        }
    )
    return predictions, np.stack([scores, scores**2]), records.sample(fraction=1, shuffle=True, seed=1)


def test_groups_are_disjoint_and_whole(tables):
    made = subgroups(*tables, draws=20, seed=0)
    assert made.schema == pl.Schema(SCHEMA)
    assert made.group_by("attribute").agg(pl.col("ecgs").sum())["ecgs"].to_list() == [400] * 4
    assert made["attribute"].unique(maintain_order=True).to_list() == ["sex", "age", "site", "device"]
    groups = made.group_by("attribute", maintain_order=True).agg("group")["group"].to_list()
    assert groups == [
        ["F", "M", "unknown"],
        ["under 40", "40 to 59", "60 to 79", "80 and over", "unknown"],
        ["msh"],
        ["MAC"],
    ]
    assert made.filter(pl.col("attribute") == "age")["ecgs"].to_list() == [100, 200, 95, 3, 2]


def test_a_groups_figure_is_that_of_its_ecgs(tables):
    predictions, scores, _ = tables
    women = np.arange(400) % 4 == 0
    asked = predictions["label"].to_numpy()[women], scores[:, women], predictions["patient"].to_numpy()[women]
    expected = intervals(*asked, draws=50, seed=3)["auroc"]
    made = subgroups(*tables, draws=50, seed=3).row(0, named=True)
    assert (made["auroc"], made["low"], made["high"]) == (expected.value, expected.low, expected.high)
    assert made["reason"] is None


def test_a_group_too_small_says_so(tables):
    made = subgroups(*tables, draws=20, seed=0).filter(pl.col("group") == "80 and over").row(0, named=True)
    assert made["auroc"] is None
    assert "too few" in made["reason"]


def test_predictions_of_unknown_ecgs_are_refused(tables):
    predictions, scores, records = tables
    with pytest.raises(ValueError, match="5 predictions"):
        subgroups(predictions, scores, records.head(395), draws=20, seed=0)
