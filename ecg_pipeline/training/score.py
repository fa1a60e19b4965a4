"""Scoring: a classifier's probabilities for a table of ECGs, the same in training and evaluation; and its features."""

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.classifier import Classifier

BATCH = 64


def score(classifier: Classifier, batches: Batches, *, device: str) -> pl.DataFrame:
    """The rows of the table in stored order, one an ECG, with the column `score` (f32): the probability of the label.

    batches: of the array `view`, what the classifier reads. Of several examples of an ECG the mean probability is
    given.
    """
    table = batches.table
    if table.is_empty():
        return table.with_columns(score=pl.lit(None, pl.Float32))
    classifier.eval()
    scored = []
    with torch.inference_mode():
        for arrays, rows in batches.in_order(BATCH):
            log_odds = classifier(torch.from_numpy(arrays["view"]).to(device))
            scored.append(rows.with_columns(score=pl.Series(log_odds.float().sigmoid()[:, 0].cpu().numpy())))
    return mean_by_ecg(pl.concat(scored)).select(*table.columns, "score")


def features_of(classifier: Classifier, examples: NDArray, *, device: str) -> NDArray[np.float32]:
    """Features (n, D) float32 of stored examples (n, ...), by a classifier in eval mode."""
    with torch.inference_mode():
        batches = [
            classifier.features(torch.from_numpy(examples[first : first + BATCH]).to(device)).float().cpu()
            for first in range(0, len(examples), BATCH)
        ]
    return torch.cat(batches).numpy()


def mean_by_ecg(scored: pl.DataFrame) -> pl.DataFrame:
    """Scored examples, one row each -> one row an ECG with the mean score. Columns: ecg_id, site, score, others."""
    others = [name for name in scored.columns if name not in ("ecg_id", "site", "score")]
    return scored.group_by("ecg_id", "site", maintain_order=True).agg(
        *(pl.col(name).first() for name in others), pl.col("score").mean()
    )
