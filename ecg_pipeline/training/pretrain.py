"""Masked image modelling over ECG sheets (paper: Masked Image Modeling, Pre-training)."""

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.beit import MEAN, STD, draw_drop_path_scale, masked_image_model
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.family import normalised
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import id_counts
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline.training.loop import RunState, clip_and_step, step_seed
from ecg_pipeline.training.masking import draw_masks
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.schedules import decay_groups, warmup_cosine
from ecg_pipeline.training.tracker import NoTracker, Tracker

SINGLE_PROCESS = ProcessGroup()


@dataclass(frozen=True)
class MicroBatch:
    """Images of a batch that go through the network at once.

    sheets (B, H, W) uint8; tokens (B, P); mask (B, P) bool; drop_path_scale (blocks, 2, B) on the CPU, or None: see
    `models.beit.draw_drop_path_scale`.
    """

    sheets: Tensor
    tokens: Tensor
    mask: Tensor
    drop_path_scale: Tensor | None


def pretrain(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    images: Mapping[str, ImageShards],
    tokens: Mapping[str, TokenShards],
    records: frozenset[str],
    vocabulary: int,
    out: Path,
    tracker: Tracker | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
    micro_batch_size: int | None = None,
    progress: Progress = no_progress,
) -> Checkpoint:
    """Pretrain on the sheets of `records` and write a checkpoint with official names and `trace.parquet` to `out`.

    A killed run resumes from its last saved state and ends with the same bits on the same processors. How many
    processes divide a batch, and how many images go through the network at once (`micro_batch_size`), changes rounding
    and nothing else. The main process writes the checkpoint; the others return when it is complete.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    table = _table(images, records)
    batches = Batches({"sheets": images, "tokens": tokens}, table)
    steps = batches.steps(recipe.batch)
    rates = warmup_cosine(recipe.learning_rate, recipe.final_learning_rate, recipe.epochs, steps, recipe.warmup_epochs)
    network = masked_image_model(model, vocabulary, recipe.seed).to(process_group.device).train()
    optimiser = torch.optim.AdamW(decay_groups(network, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    background = _commonest_token(tokens, table, vocabulary)
    tracker.parameters({"model": asdict(model), "pretraining": asdict(recipe), "images": len(table)})

    trace: list[dict[str, float]] = []
    hidden = torch.zeros(model.grid**2, dtype=torch.long)
    state = RunState(out, process_group.device)
    if (last := state.load()) is not None:
        network.load_state_dict(last["network"])
        optimiser.load_state_dict(last["optimiser"])
        trace, hidden = last["trace"], last["hidden"].cpu()

    wrapped = process_group.wrap(network)
    began, seen = time.monotonic(), 0
    for step, arrays in _steps(batches, recipe, first=len(trace)):
        batch = len(arrays["sheets"])
        micro_batches = _micro_batches(model, recipe, arrays, step, process_group, micro_batch_size)
        of_patch = process_group.all_reduce(
            torch.stack([micro_batch.mask.sum(dim=0) for micro_batch in micro_batches]).sum(dim=0)
        )
        count = int(of_patch.sum())
        optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(4, device=process_group.device)
        for micro_batch in micro_batches:
            # Gradients are averaged over processes with the last micro-batch, so each loss is scaled by their number.
            is_synced = micro_batch is micro_batches[-1] or process_group.size == 1
            with nullcontext() if is_synced else wrapped.no_sync():  # type: ignore
                sums += backward(wrapped, micro_batch, process_group.size / count, background)
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step])
        point = _point(process_group.all_reduce(sums), count)
        norm = clip_and_step(network, point["loss"], optimiser, recipe.clip, step)
        trace.append({"step": float(step), "learning_rate": float(rates[step]), **point, "gradient_norm": norm})
        hidden += of_patch.cpu()
        seen += batch
        if not process_group.is_main:
            continue
        if step % 10 == 0 or step + 1 == len(rates):
            tracker.metrics(step, trace[-1] | {"images_per_second": seen / (time.monotonic() - began)})
        progress((step + 1) * batch, len(rates) * batch)
        if state.is_time():
            weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            state.save(weights | {"trace": trace, "hidden": hidden})

    if process_group.is_main:
        write_parquet(out / "trace.parquet", pl.DataFrame(trace))
        config = _config(model, recipe, vocabulary, table, trace, hidden)
        save_checkpoint(out, network.official_state(), config)
        state.discard()
    process_group.barrier()
    return Checkpoint(out)


def _steps(batches: Batches, recipe: PretrainRecipe, first: int) -> Iterator[tuple[int, dict[str, NDArray]]]:
    """The batches of a run from step `first` on, each with its number."""
    steps = batches.steps(recipe.batch)
    for epoch in range(first // steps, recipe.epochs):
        for step, (arrays, _) in enumerate(batches.epoch(recipe.batch, recipe.seed, epoch), epoch * steps):
            if step >= first:
                yield step, arrays


def _micro_batches(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    arrays: Mapping[str, NDArray],
    step: int,
    process_group: ProcessGroup,
    micro_batch_size: int | None,
) -> list[MicroBatch]:
    """This process's slice of a batch with its masks, on its device, as micro-batches of at most `micro_batch_size`."""
    batch = len(arrays["sheets"])
    local = process_group.local_slice(batch)
    masks = draw_masks(recipe.seed, step, local, model.grid, model.grid, recipe.mask)
    drop_path_scale = draw_drop_path_scale(model, batch, torch.Generator().manual_seed(step_seed(recipe.seed, step)))
    size = micro_batch_size or len(local)
    device = process_group.device
    micro_batches = []
    for first in range(local.start, local.stop, size):
        places = slice(first, min(first + size, local.stop))
        micro_batches.append(
            MicroBatch(
                torch.from_numpy(arrays["sheets"][places]).to(device, non_blocking=True),
                torch.from_numpy(arrays["tokens"][places]).to(device, torch.long, non_blocking=True),
                torch.from_numpy(masks[places.start - local.start : places.stop - local.start]).to(device),
                drop_path_scale[:, :, places] if drop_path_scale is not None else None,
            )
        )
    return micro_batches


def backward(network: nn.Module, micro_batch: MicroBatch, weight: float, background: int) -> Tensor:
    """Add the gradient of `weight` times the summed loss of a micro-batch.

    Returns (4,): that sum without the weight, and the numbers of masked patches that are predicted correctly, that are
    predicted correctly and not background, and that are not background.
    """
    device = micro_batch.sheets.device
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (MEAN, STD))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        logits = network(normalised(micro_batch.sheets, mean, std), micro_batch.mask, micro_batch.drop_path_scale)
    target = micro_batch.tokens[micro_batch.mask]
    loss = cross_entropy(logits.float(), target, reduction="sum")
    (loss * weight).backward()
    right, drawn = logits.argmax(dim=-1) == target, target != background
    return torch.stack([loss.detach(), right.sum(), (right & drawn).sum(), drawn.sum()])


def _point(sums: Tensor, count: int) -> dict[str, float]:
    """Mean loss and accuracy on the masked patches: on all, on those that are not the commonest token, and of always
    guessing that one.

    Most patches of a sheet are blank paper, so the accuracy on all says little.
    """
    loss, right, right_drawn, drawn = sums.tolist()
    return {
        "loss": loss / count,
        "accuracy": right / count,
        "accuracy_drawn": right_drawn / max(1.0, drawn),
        "accuracy_of_background": 1 - drawn / count,
    }


def _table(images: Mapping[str, ImageShards], records: frozenset[str]) -> pl.DataFrame:
    """Columns record and site of the sheets that are pretrained on."""
    rows = [shards.index().select("record", site=pl.lit(site)) for site, shards in images.items()]
    table = pl.concat(rows).filter(pl.col("record").is_in(list(records)))
    if table.is_empty():
        raise ValueError("none of the pretraining sites has an ECG of a training patient")
    return table


def _commonest_token(tokens: Mapping[str, TokenShards], table: pl.DataFrame, vocabulary: int) -> int:
    """The id of blank paper: the token that occurs most often in the pretraining images."""
    wanted, counts = table["record"].implode(), np.zeros(vocabulary, np.int64)
    for shards in tokens.values():
        for rows, array in shards:
            counts += id_counts(array[rows["record"].is_in(wanted).to_numpy()], vocabulary)
    return int(counts.argmax())


def _config(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    vocabulary: int,
    table: pl.DataFrame,
    trace: list[dict[str, float]],
    hidden: Tensor,
) -> dict[str, Any]:
    last = pl.DataFrame(trace).tail(max(1, len(trace) // recipe.epochs)).mean().row(0, named=True)
    drawn = len(trace) * min(recipe.batch, len(table))
    return {
        "model": asdict(model),
        "pretraining": asdict(recipe),
        "vocabulary": vocabulary,
        "images": len(table),
        "steps": len(trace),
        "last_epoch": {name: round(value, 6) for name, value in last.items() if name != "step"},
        "mask_frequency": [
            [round(share, 4) for share in row] for row in (hidden / drawn).reshape(model.grid, model.grid).tolist()
        ],
    }
