"""Scoring: a classifier's probabilities for a table of ECGs. Fine-tuning and evaluation use the same function."""

import polars as pl
import torch
from torch import nn

from ecg_pipeline.training.batches import Batches

BATCH = 64


def score(network: nn.Module, batches: Batches, device: str) -> pl.DataFrame:
    """The table's rows in stored order, with the column `score` (f32): the probability of the positive class.

    batches: with the array `images`, (B, H, W) uint8.
    """
    network.eval()
    scored = []
    with torch.inference_mode():
        for arrays, rows in batches.in_order(BATCH):
            logits = network(torch.from_numpy(arrays["images"]).to(device))
            scored.append(rows.with_columns(score=pl.Series(logits.float().softmax(dim=1)[:, 1].cpu().numpy())))
    return pl.concat(scored) if scored else batches.table.with_columns(score=pl.lit(None, pl.Float32)).clear()
