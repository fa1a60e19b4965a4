"""Masked image modelling over ECG sheets (paper: Masked Image Modeling, Pre-training)."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ecg_pipeline.ecg import Progress, silent
from ecg_pipeline.files import write_parquet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.beit import MEAN, STD, masked_image_model
from ecg_pipeline.models.checkpoints import Checkpoint, save_checkpoint
from ecg_pipeline.models.family import normalised
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.loop import RunState, descend, seed_step
from ecg_pipeline.training.masking import draw_masks
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.schedules import decay_groups, warmup_cosine
from ecg_pipeline.training.tracker import NoTracker, Tracker

REVISION = 1
"""Bumped by hand when this module's results change."""


def pretrain(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    images: Mapping[str, ImageShards],
    tokens: Mapping[str, TokenShards],
    records: frozenset[str],
    vocabulary: int,
    out: Path,
    tracker: Tracker | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Checkpoint:
    """Pretrain on the sheets of `records` and write a checkpoint with official names and `trace.parquet` to `out`.

    A killed run goes on where its state was last kept and ends with the same bits on the same processor.
    """
    tracker = tracker or NoTracker()
    table = _table(images, records)
    batches = Batches({"sheets": images, "tokens": tokens}, table)
    steps = batches.steps(recipe.batch)
    rates = warmup_cosine(recipe.learning_rate, recipe.final_learning_rate, recipe.epochs, steps, recipe.warmup_epochs)
    network = masked_image_model(model, vocabulary, recipe.seed).to(device).train()
    optimiser = torch.optim.AdamW(decay_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
    background = _commonest_token(tokens, table)
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (MEAN, STD))
    tracker.parameters({"model": asdict(model), "pretraining": asdict(recipe), "images": len(table)})

    trace: list[dict[str, float]] = []
    state = RunState(out, device)
    if (kept := state.load()) is not None:
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        trace = kept["trace"]

    began, seen = time.monotonic(), 0
    for epoch in range(len(trace) // steps, recipe.epochs):
        for within, (arrays, _) in enumerate(batches.epoch(recipe.batch, recipe.seed, epoch)):
            step = epoch * steps + within
            if step < len(trace):
                continue
            seed_step(recipe.seed, step)
            sheets = torch.from_numpy(arrays["sheets"]).to(device)
            ids = torch.from_numpy(arrays["tokens"]).to(device).long()
            masks = draw_masks(Random(f"{recipe.seed}:{step}"), len(sheets), model.grid, model.grid, recipe.mask)  # noqa: S311
            mask = torch.from_numpy(masks).to(device)
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                logits = network(normalised(sheets, mean, std), mask)
            target = ids[mask]
            loss = cross_entropy(logits.float(), target)
            for group in optimiser.param_groups:
                group["lr"] = float(rates[step])
            norm = descend(network, loss, optimiser, recipe.clip, step)
            point = _metrics(logits, target, background) | {"loss": loss.item(), "gradient_norm": norm}
            trace.append({"step": float(step), "learning_rate": float(rates[step]), **point})
            seen += len(sheets)
            if step % 10 == 0 or step + 1 == len(rates):
                tracker.metrics(step, trace[-1] | {"images_per_second": seen / (time.monotonic() - began)})
            progress(step + 1, len(rates))
            if state.is_time():
                state.save({"network": network.state_dict(), "optimiser": optimiser.state_dict(), "trace": trace})

    write_parquet(out / "trace.parquet", pl.DataFrame(trace))
    checkpoint = save_checkpoint(out, network.official_state(), _config(model, recipe, vocabulary, table, trace))
    state.discard()
    return checkpoint


def _metrics(logits: Tensor, target: Tensor, background: int) -> dict[str, float]:
    """Accuracy on masked patches: on all, on those that are not the commonest token, and of always guessing that one.

    Most patches of a sheet are blank paper, so the first figure alone says little.
    """
    right, drawn = logits.argmax(dim=-1) == target, target != background
    return {
        "accuracy": float(right.float().mean()),
        "accuracy_drawn": float(right[drawn].float().mean()) if drawn.any() else 0.0,
        "accuracy_of_background": float((~drawn).float().mean()),
    }


def _table(images: Mapping[str, ImageShards], records: frozenset[str]) -> pl.DataFrame:
    """Columns record and site of the sheets that are pretrained on."""
    rows = [shards.index().select("record", site=pl.lit(site)) for site, shards in images.items()]
    table = pl.concat(rows).filter(pl.col("record").is_in(list(records)))
    if table.is_empty():
        raise ValueError("none of the pretraining sites has an ECG of a training patient")
    return table


def _commonest_token(tokens: Mapping[str, TokenShards], table: pl.DataFrame) -> int:
    """The id of blank paper: the token that occurs most often in the pretraining images."""
    wanted = set(table["record"])
    counts = torch.zeros(0, dtype=torch.long)
    for shards in tokens.values():
        for rows, array in shards:
            chosen = array[rows["record"].is_in(list(wanted)).to_numpy()]
            found = torch.bincount(torch.from_numpy(chosen.reshape(-1)).long(), minlength=len(counts))
            counts = found + torch.nn.functional.pad(counts, (0, len(found) - len(counts)))
    return int(counts.argmax())


def _config(
    model: BeitRecipe, recipe: PretrainRecipe, vocabulary: int, table: pl.DataFrame, trace: list[dict[str, float]]
) -> dict[str, Any]:
    last = pl.DataFrame(trace).tail(max(1, len(trace) // recipe.epochs)).mean().row(0, named=True)
    return {
        "model": asdict(model),
        "pretraining": asdict(recipe),
        "vocabulary": vocabulary,
        "images": len(table),
        "steps": len(trace),
        "last_epoch": {name: round(value, 6) for name, value in last.items() if name != "step"},
    }
