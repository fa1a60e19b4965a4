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
from ecg_pipeline.files import write_parquet
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.beit import MEAN, STD, draw_kept, masked_image_model
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.family import normalised
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import id_counts
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.loop import RunState, move, step_seed
from ecg_pipeline.training.masking import draw_masks
from ecg_pipeline.training.ranks import Ranks
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.schedules import decay_groups, warmup_cosine
from ecg_pipeline.training.tracker import NoTracker, Tracker
from ecg_pipeline.workers import disable_malloc_trim

ALONE = Ranks()


@dataclass(frozen=True)
class Piece:
    """Images of a batch that go through the network at once.

    sheets (B, H, W) uint8; tokens (B, P); mask (B, P) bool; kept (blocks, 2, B) on the processor, or None, see
    `models.beit.draw_kept`.
    """

    sheets: Tensor
    tokens: Tensor
    mask: Tensor
    kept: Tensor | None


def pretrain(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    images: Mapping[str, ImageShards],
    tokens: Mapping[str, TokenShards],
    records: frozenset[str],
    vocabulary: int,
    out: Path,
    tracker: Tracker | None = None,
    ranks: Ranks = ALONE,
    micro_batch: int | None = None,
    progress: Progress = no_progress,
) -> Checkpoint:
    """Pretrain on the sheets of `records` and write a checkpoint with official names and `trace.parquet` to `out`.

    A killed run goes on where its state was last kept and ends with the same bits on the same processors. How many
    processes share a batch, and how many images (`micro_batch`) go through the network at once, changes rounding and
    nothing else. The checkpoint is written by the process that leads; the others return when it stands.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    table = _table(images, records)
    batches = Batches({"sheets": images, "tokens": tokens}, table)
    steps = batches.steps(recipe.batch)
    rates = warmup_cosine(recipe.learning_rate, recipe.final_learning_rate, recipe.epochs, steps, recipe.warmup_epochs)
    network = masked_image_model(model, vocabulary, recipe.seed).to(ranks.device).train()
    optimiser = torch.optim.AdamW(decay_groups(network, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    background = _commonest_token(tokens, table, vocabulary)
    tracker.parameters({"model": asdict(model), "pretraining": asdict(recipe), "images": len(table)})

    trace: list[dict[str, float]] = []
    hidden = torch.zeros(model.grid**2, dtype=torch.long)
    state = RunState(out, ranks.device)
    if (last := state.load()) is not None:
        network.load_state_dict(last["network"])
        optimiser.load_state_dict(last["optimiser"])
        trace, hidden = last["trace"], last["hidden"].cpu()

    together = ranks.together(network)
    began, seen = time.monotonic(), 0
    for step, arrays in _steps(batches, recipe, first=len(trace)):
        batch = len(arrays["sheets"])
        pieces = _pieces(model, recipe, arrays, step, ranks, micro_batch)
        of_patch = ranks.total(torch.stack([piece.mask.sum(dim=0) for piece in pieces]).sum(dim=0))
        count = int(of_patch.sum())
        optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(4, device=ranks.device)
        for piece in pieces:
            # Gradients are averaged over processes with the last piece, so each loss is scaled up by their number.
            with nullcontext() if piece is pieces[-1] or ranks.size == 1 else together.no_sync():  # type: ignore
                sums += backward(together, piece, ranks.size / count, background)
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step])
        point = _point(ranks.total(sums), count)
        norm = move(network, point["loss"], optimiser, recipe.clip, step)
        trace.append({"step": float(step), "learning_rate": float(rates[step]), **point, "gradient_norm": norm})
        hidden += of_patch.cpu()
        seen += batch
        if not ranks.leads:
            continue
        if step % 10 == 0 or step + 1 == len(rates):
            tracker.metrics(step, trace[-1] | {"images_per_second": seen / (time.monotonic() - began)})
        progress((step + 1) * batch, len(rates) * batch)
        if state.is_time():
            weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            state.save(weights | {"trace": trace, "hidden": hidden})

    if ranks.leads:
        write_parquet(out / "trace.parquet", pl.DataFrame(trace))
        config = _config(model, recipe, vocabulary, table, trace, hidden)
        save_checkpoint(out, network.official_state(), config)
        state.discard()
    ranks.wait()
    return Checkpoint(out)


def _steps(batches: Batches, recipe: PretrainRecipe, first: int) -> Iterator[tuple[int, dict[str, NDArray]]]:
    """The batches of a run from step `first` on, each with its number."""
    steps = batches.steps(recipe.batch)
    for epoch in range(first // steps, recipe.epochs):
        for step, (arrays, _) in enumerate(batches.epoch(recipe.batch, recipe.seed, epoch), epoch * steps):
            if step >= first:
                yield step, arrays


def _pieces(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    arrays: Mapping[str, NDArray],
    step: int,
    ranks: Ranks,
    micro_batch: int | None,
) -> list[Piece]:
    """This process's share of a batch with its masks, on its device, in pieces of at most `micro_batch` images."""
    batch = len(arrays["sheets"])
    share = ranks.share(batch)
    masks = draw_masks(recipe.seed, step, share, model.grid, model.grid, recipe.mask)
    kept = draw_kept(model, batch, torch.Generator().manual_seed(step_seed(recipe.seed, step)))
    size = micro_batch or len(share)
    pieces = []
    for first in range(share.start, share.stop, size):
        places = slice(first, min(first + size, share.stop))
        pieces.append(
            Piece(
                torch.from_numpy(arrays["sheets"][places]).to(ranks.device, non_blocking=True),
                torch.from_numpy(arrays["tokens"][places]).to(ranks.device, torch.long, non_blocking=True),
                torch.from_numpy(masks[places.start - share.start : places.stop - share.start]).to(ranks.device),
                kept[:, :, places] if kept is not None else None,
            )
        )
    return pieces


def backward(network: nn.Module, piece: Piece, weight: float, background: int) -> Tensor:
    """Add the gradient of `weight` times the summed loss of a piece.

    Returns (4,): that sum without the weight, and the numbers of masked patches that were named rightly, that were
    named rightly and are not background, that are not background.
    """
    device = piece.sheets.device
    mean, std = (torch.tensor(value, device=device)[:, None, None] for value in (MEAN, STD))
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        logits = network(normalised(piece.sheets, mean, std), piece.mask, piece.kept)
    target = piece.tokens[piece.mask]
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
