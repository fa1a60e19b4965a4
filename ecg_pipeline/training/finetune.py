"""Fine-tuning for one task, with the epoch chosen once on validation patients (paper: Fine-tuning)."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy

from ecg_pipeline.ecg import Progress, silent
from ecg_pipeline.files import write_parquet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.checkpoints import Checkpoint, save_checkpoint
from ecg_pipeline.models.family import build_classifier, classifier_config
from ecg_pipeline.models.recipes import ModelRecipe
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.loop import RunState, descend, seed_step
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.tracker import NoTracker, Tracker

REVISION = 1
"""Bumped by hand when this module's results change."""

SCORING_BATCH = 64


def finetune(
    model: ModelRecipe,
    recipe: FinetuneRecipe,
    start: Checkpoint | Path | None,
    images: Mapping[str, ImageShards],
    train: pl.DataFrame,
    validation: pl.DataFrame,
    out: Path,
    tracker: Tracker | None = None,
    device: str = "cpu",
    progress: Progress = silent,
) -> Checkpoint:
    """Fine-tune on `train` and write the chosen epoch's checkpoint with `trace.parquet` (a row an epoch) to `out`.

    train, validation: columns record, site, patient, label (0 or 1). The result is a function of the inputs and the
    seed, on one kind of processor; a killed run goes on after its last epoch. One class alone in
    `train` is a ValueError.
    """
    tracker = tracker or NoTracker()
    if train["label"].n_unique() < 2:
        raise ValueError(
            f"{len(train)} training ECGs of {train['patient'].n_unique()} patients have one label: "
            "take a larger fraction, or look at the task's rule"
        )
    batches = Batches({"sheets": images}, train.select("record", "site", "label"))
    held_out = Batches({"sheets": images}, validation.select("record", "site", "label"))
    steps = batches.steps(recipe.batch)
    network = build_classifier(model, start, recipe.seed).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.max_learning_rate, weight_decay=recipe.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.max_learning_rate, epochs=recipe.epochs, steps_per_epoch=steps
    )
    tracker.parameters({"model": asdict(model), "finetuning": asdict(recipe), **_counts(train, validation)})

    trace: list[dict[str, float | None]] = []
    best: dict[str, Any] = {}
    state = RunState(out, device)
    if (kept := state.load()) is not None:
        network.load_state_dict(kept["network"])
        optimiser.load_state_dict(kept["optimiser"])
        schedule.load_state_dict(kept["schedule"])
        trace, best = kept["trace"], kept["best"]

    for epoch in range(len(trace), recipe.epochs):
        network.train()
        losses = []
        for within, (arrays, rows) in enumerate(batches.epoch(recipe.batch, recipe.seed, epoch)):
            step = epoch * steps + within
            seed_step(recipe.seed, step)
            sheets, labels = torch.from_numpy(arrays["sheets"]).to(device), rows["label"].to_torch().long().to(device)
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                logits = network(sheets)
            loss = cross_entropy(logits.float(), labels)
            descend(network, loss, optimiser, None, step)
            schedule.step()
            losses.append(loss.item())
            progress(step + 1, recipe.epochs * steps)
        scored = score(network, held_out, device)
        trace.append({"epoch": float(epoch + 1), "train_loss": float(np.mean(losses)), **_validate(scored)})
        tracker.metrics(epoch + 1, {name: value for name, value in trace[-1].items() if value is not None})
        if not best or _is_better(trace[-1], best["point"]):
            best = {"point": trace[-1], "network": {k: v.detach().clone() for k, v in network.state_dict().items()}}
        if state.is_time():
            state.save(
                {
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "trace": trace,
                    "best": best,
                }
            )

    write_parquet(out / "trace.parquet", pl.DataFrame(trace, infer_schema_length=None))
    config = {
        **classifier_config(model, start),
        "finetuning": asdict(recipe),
        "chosen_epoch": int(best["point"]["epoch"]),
        "chosen_by": _reason(best["point"]),
        "validation_auroc": best["point"]["validation_auroc"],
        **_counts(train, validation),
    }
    checkpoint = save_checkpoint(out, best["network"], config)
    state.discard()
    return checkpoint


def score(network: nn.Module, batches: Batches, device: str) -> pl.DataFrame:
    """Scores of a table's ECGs: its columns and `score`, the probability of the positive class, in stored order."""
    network.eval()
    scored = []
    with torch.inference_mode():
        for arrays, rows in batches.in_order(SCORING_BATCH):
            logits = network(torch.from_numpy(arrays["sheets"]).to(device))
            scored.append(rows.with_columns(score=pl.Series(logits.float().softmax(dim=1)[:, 1].cpu().numpy())))
    return pl.concat(scored) if scored else batches.table.with_columns(score=pl.lit(None, pl.Float32)).clear()


def _validate(scored: pl.DataFrame) -> dict[str, float | None]:
    """Loss and AUROC on validation patients; an AUROC needs both classes."""
    if scored.is_empty():
        return {"validation_loss": None, "validation_auroc": None}
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy().astype(np.float64).clip(1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores)))
    auroc = float(roc_auc_score(labels, scores)) if 0 < labels.sum() < len(labels) else None
    return {"validation_loss": float(loss), "validation_auroc": auroc}


def _is_better(point: dict[str, float | None], best: dict[str, float | None]) -> bool:
    """By validation AUROC, the earlier of two equals; without validation labels of both kinds the last epoch counts."""
    new, old = point["validation_auroc"], best["validation_auroc"]
    return True if new is None or old is None else new > old


def _reason(point: dict[str, float | None]) -> str:
    if point["validation_auroc"] is None:
        return "the last epoch: the validation patients do not have both labels"
    return "highest AUROC on validation patients"


def _counts(train: pl.DataFrame, validation: pl.DataFrame) -> dict[str, int]:
    return {
        f"{part}_{what}": int(number)
        for part, table in (("train", train), ("validation", validation))
        for what, number in (
            ("ecgs", len(table)),
            ("patients", table["patient"].n_unique()),
            ("positives", table["label"].sum()),
        )
    }
