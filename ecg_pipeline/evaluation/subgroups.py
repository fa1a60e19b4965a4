"""Metrics of a model by sex, age, site and device.

A model that is good on average may be poor in a group; TRIPOD+AI (items 12e and 23a) asks for the metrics of each.
"""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.metrics.bootstrap import intervals
from ecg_pipeline.metrics.table import AUROC

AGE_EDGES_YEARS = (40, 60, 80)
AGE_BANDS = ("under 40", "40 to 59", "60 to 79", "80 and over")
UNKNOWN = "unknown"
MIN_PATIENTS = 10
"""Least number of patients with a positive ECG, and with a negative one: an AUROC of fewer is not given."""

SCHEMA = {
    "attribute": pl.String,
    "group": pl.String,
    "ecgs": pl.Int64,
    "patients": pl.Int64,
    "positives": pl.Int64,
    "auroc": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "reason": pl.String,
}


def subgroups(
    predictions: pl.DataFrame, scores: NDArray | None, ecgs: pl.DataFrame, *, draws: int, seed: int
) -> pl.DataFrame:
    """One row per group of sex, age, site and device, in that order; columns as in `SCHEMA`.

    predictions: columns ecg_id, patient, label. scores: (N,) or (S, N) of its rows; None if there
    are none. ecgs: columns ecg_id, site, age_years, sex and device. A missing attribute is the group `unknown`. AUROC
    and interval are null if a group is too small, and `reason` says so. A prediction of an ECG that `ecgs` lacks is a
    ValueError.
    """
    described = predictions.select("ecg_id", "patient", "label").join(
        ecgs.select("ecg_id", "site", "age_years", "sex", "device"),
        on="ecg_id",
        how="left",
        maintain_order="left",
        validate="m:1",
    )
    if missing := described["site"].null_count():
        raise ValueError(f"{missing} predictions are of ECGs that the table does not hold")
    reached = pl.sum_horizontal(*(pl.col("age_years") >= edge for edge in AGE_EDGES_YEARS), ignore_nulls=False)
    table = described.select(
        "patient",
        "label",
        "sex",
        reached.replace_strict(dict(enumerate(AGE_BANDS)), return_dtype=pl.String).alias("age"),
        "site",
        "device",
    ).with_columns(pl.col("sex", "age", "site", "device").fill_null(UNKNOWN))
    rows = []
    for attribute in ("sex", "age", "site", "device"):
        for group in sorted(table[attribute].unique(), key=_sort_key):
            in_group = (table[attribute] == group).to_numpy()
            of_group = None if scores is None else np.asarray(scores)[..., in_group]
            row = _row(table.filter(in_group), of_group, draws=draws, seed=seed)
            rows.append({"attribute": attribute, "group": group} | row)
    return pl.DataFrame(rows, schema=SCHEMA)


def _sort_key(group: str) -> tuple[int, str]:
    """Age bands in the order of age, names in that of the alphabet, `unknown` last."""
    return (AGE_BANDS.index(group), "") if group in AGE_BANDS else (len(AGE_BANDS) + (group == UNKNOWN), group)


def _row(table: pl.DataFrame, scores: NDArray | None, *, draws: int, seed: int) -> dict[str, Any]:
    """Counts of one group, and its AUROC with interval, or the reason why there is none."""
    counts = {"ecgs": len(table), "patients": table["patient"].n_unique(), "positives": int(table["label"].sum())}
    if scores is None:
        return counts | {"reason": "no scores"}
    ill, well = (table.filter(pl.col("label") == label)["patient"].n_unique() for label in (1, 0))
    if min(ill, well) < MIN_PATIENTS:
        return counts | {"reason": f"too few: {ill} patients with a positive and {well} with a negative ECG"}
    columns = table["label"].to_numpy(), scores, table["patient"].to_numpy()
    auroc = intervals(*columns, draws=draws, seed=seed, metrics=[AUROC])[AUROC.name]
    return counts | {"auroc": auroc.value, "low": auroc.low, "high": auroc.high}
