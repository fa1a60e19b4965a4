"""Pretraining of BEiT by masked image modelling (paper: Masked Image Modeling, Pre-training)."""

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
from ecg_pipeline.models.beit import MEAN, STD, masked_image_model, sample_drop_path_scale
from ecg_pipeline.models.checkpoints import Checkpoint
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline.training.loop import RunState, clip_and_step, step_seed
from ecg_pipeline.training.masking import sample_masks
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.schedules import decay_groups, warmup_cosine
from ecg_pipeline.training.tracker import NoTracker, Tracker

SINGLE_PROCESS = ProcessGroup()


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """The images of a batch that go through the network at once.

    images (B, H, W) uint8; tokens (B, P); mask (B, P) bool; drop_path_scale (blocks, 2, B) on the CPU, or None: see
    `models.beit.sample_drop_path_scale`.
    """

    images: Tensor
    tokens: Tensor
    mask: Tensor
    drop_path_scale: Tensor | None


def pretrain(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    *,
    images: Mapping[str, ArrayShards],
    tokens: Mapping[str, ArrayShards],
    ecg_ids: frozenset[str],
    vocabulary: int,
    out: Path,
    tracker: Tracker | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
    micro_batch_size: int | None = None,
    progress: Progress = no_progress,
) -> Checkpoint:
    """Pretrain on the images of `ecg_ids` and write a checkpoint and `trace.parquet`, one row per step, to `out`.

    images, tokens: by site, (n, H, W) uint8 and (n, P) int16 per shard. vocabulary: number of token ids. The
    checkpoint's weights have the names of BEiT's authors.

    A killed run resumes from its last saved state and gives the same bits on the same hardware. The number of processes
    and `micro_batch_size` (images in one forward pass; None is all) change the result by rounding only. The main
    process writes the checkpoint; the others return when it is complete.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    table = _table(images, ecg_ids)
    batches = Batches(arrays={"images": images, "tokens": tokens}, table=table)
    rates = warmup_cosine(
        peak=recipe.learning_rate,
        final=recipe.final_learning_rate,
        epochs=recipe.epochs,
        steps_per_epoch=batches.steps(recipe.batch),
        warmup_epochs=recipe.warmup_epochs,
    )
    network = masked_image_model(model, vocabulary=vocabulary, seed=recipe.seed).to(process_group.device).train()
    optimiser = torch.optim.AdamW(decay_groups(network, recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    background = _commonest_token(tokens, table, vocabulary)
    tracker.parameters({"model": asdict(model), "pretraining": asdict(recipe), "images": len(table)})

    trace: list[dict[str, float]] = []
    masked = torch.zeros(model.grid**2, dtype=torch.long)  # how often each patch was masked
    state = RunState(out, process_group.device)
    if (last := state.load()) is not None:
        network.load_state_dict(last["network"])
        optimiser.load_state_dict(last["optimiser"])
        trace, masked = last["trace"], last["masked"].cpu()

    wrapped = process_group.wrap(network)
    began, seen = time.monotonic(), 0
    for step, arrays in _steps(batches, recipe, first=len(trace)):
        batch = len(arrays["images"])
        micro_batches = _micro_batches(
            model, recipe, arrays=arrays, step=step, process_group=process_group, micro_batch_size=micro_batch_size
        )
        masked_in_batch = process_group.all_reduce(
            torch.stack([micro_batch.mask.sum(dim=0) for micro_batch in micro_batches]).sum(dim=0)
        )
        count = int(masked_in_batch.sum())
        optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros(4, device=process_group.device)
        for micro_batch in micro_batches:
            # DDP averages gradients over processes at the last micro-batch; scaling by their number gives the sum.
            is_synced = micro_batch is micro_batches[-1] or process_group.size == 1
            with nullcontext() if is_synced else wrapped.no_sync():  # type: ignore
                sums += backward(wrapped, micro_batch, weight=process_group.size / count, background=background)
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step])
        point = _point(process_group.all_reduce(sums), count)
        norm = clip_and_step(network, optimiser, loss=point["loss"], clip=recipe.clip, step=step)
        trace.append({"step": float(step), "learning_rate": float(rates[step]), **point, "gradient_norm": norm})
        masked += masked_in_batch.cpu()
        seen += batch
        if not process_group.is_main:
            continue
        if step % 10 == 0 or step + 1 == len(rates):
            tracker.metrics(step, trace[-1] | {"images_per_second": seen / (time.monotonic() - began)})
        progress((step + 1) * batch, len(rates) * batch)
        if state.should_save():
            weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            state.save(weights | {"trace": trace, "masked": masked})

    if process_group.is_main:
        write_parquet(out / "trace.parquet", pl.DataFrame(trace))
        config = _config(model, recipe, vocabulary=vocabulary, images=len(table), trace=trace, masked=masked)
        save_checkpoint(out, state=network.official_state(), config=config)
        state.discard()
    process_group.barrier()
    return Checkpoint(out)


def _steps(batches: Batches, recipe: PretrainRecipe, first: int) -> Iterator[tuple[int, dict[str, NDArray]]]:
    """The batches of a run from step `first` on, with their step number."""
    steps = batches.steps(recipe.batch)
    for epoch in range(first // steps, recipe.epochs):
        for step, (arrays, _) in enumerate(batches.epoch(epoch, batch=recipe.batch, seed=recipe.seed), epoch * steps):
            if step >= first:
                yield step, arrays


def _micro_batches(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    *,
    arrays: Mapping[str, NDArray],
    step: int,
    process_group: ProcessGroup,
    micro_batch_size: int | None,
) -> list[MicroBatch]:
    """This process's slice of a batch, with masks, on its device, as micro-batches of at most `micro_batch_size`."""
    batch = len(arrays["images"])
    local = process_group.local_slice(batch)
    masks = sample_masks(recipe.mask, local, seed=recipe.seed, step=step, rows=model.grid, columns=model.grid)
    generator = torch.Generator().manual_seed(step_seed(recipe.seed, step=step))
    drop_path_scale = sample_drop_path_scale(model, batch, generator)
    size = micro_batch_size or len(local)
    device = process_group.device
    micro_batches = []
    for first in range(local.start, local.stop, size):
        places = slice(first, min(first + size, local.stop))
        micro_batches.append(
            MicroBatch(
                images=torch.from_numpy(arrays["images"][places]).to(device, non_blocking=True),
                tokens=torch.from_numpy(arrays["tokens"][places]).to(device, torch.long, non_blocking=True),
                mask=torch.from_numpy(masks[places.start - local.start : places.stop - local.start]).to(device),
                drop_path_scale=drop_path_scale[:, :, places] if drop_path_scale is not None else None,
            )
        )
    return micro_batches


def backward(network: nn.Module, micro_batch: MicroBatch, *, weight: float, background: int) -> Tensor:
    """Accumulate the gradient of `weight` times the summed cross entropy of a micro-batch's masked patches.

    background: id of the commonest token. Returns (4,): the unweighted sum, and of the masked patches the numbers that
    are predicted correctly, that are predicted correctly and not background, and that are not background.
    """
    device = micro_batch.images.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        pixels = normalise(micro_batch.images, mean=MEAN, std=STD)
        logits = network(pixels, micro_batch.mask, micro_batch.drop_path_scale)
    target = micro_batch.tokens[micro_batch.mask]
    loss = cross_entropy(logits.float(), target, reduction="sum")
    (loss * weight).backward()
    correct, inked = logits.argmax(dim=-1) == target, target != background
    return torch.stack([loss.detach(), correct.sum(), (correct & inked).sum(), inked.sum()])


def _point(sums: Tensor, count: int) -> dict[str, float]:
    """Mean loss and accuracies on the masked patches, from the sums of `backward` over a whole batch.

    Most patches are blank paper, so accuracy is also given on the others (`accuracy_inked`), and that of always
    predicting the commonest token (`accuracy_of_background`).
    """
    loss, correct, correct_inked, inked = sums.tolist()
    return {
        "loss": loss / count,
        "accuracy": correct / count,
        "accuracy_inked": correct_inked / max(1.0, inked),
        "accuracy_of_background": 1 - inked / count,
    }


def _table(images: Mapping[str, ArrayShards], ecg_ids: frozenset[str]) -> pl.DataFrame:
    """Columns ecg_id and site of the images of `ecg_ids`. None at all is a ValueError."""
    rows = [shards.index().select("ecg_id", site=pl.lit(site)) for site, shards in images.items()]
    table = pl.concat(rows).filter(pl.col("ecg_id").is_in(list(ecg_ids)))
    if table.is_empty():
        raise ValueError("none of the pretraining sites has an ECG of a training patient")
    return table


def _commonest_token(tokens: Mapping[str, ArrayShards], table: pl.DataFrame, vocabulary: int) -> int:
    """The token id that occurs most often in the pretraining images: that of blank paper."""
    wanted, counts = table["ecg_id"].implode(), np.zeros(vocabulary, np.int64)
    for shards in tokens.values():
        for rows, array in shards:
            ids = array[rows["ecg_id"].is_in(wanted).to_numpy()]
            counts += np.bincount(ids.reshape(-1), minlength=vocabulary)
    return int(counts.argmax())


def _config(
    model: BeitRecipe,
    recipe: PretrainRecipe,
    *,
    vocabulary: int,
    images: int,
    trace: list[dict[str, float]],
    masked: Tensor,
) -> dict[str, Any]:
    """Config of the checkpoint: recipes, counts, mean metrics of the last epoch, how often each patch was masked."""
    last = pl.DataFrame(trace).tail(max(1, len(trace) // recipe.epochs)).mean().row(0, named=True)
    masks = len(trace) * min(recipe.batch, images)
    return {
        "model": asdict(model),
        "pretraining": asdict(recipe),
        "vocabulary": vocabulary,
        "images": images,
        "steps": len(trace),
        "last_epoch": {name: round(value, 6) for name, value in last.items() if name != "step"},
        "mask_frequency": [
            [round(share, 4) for share in row] for row in (masked / masks).reshape(model.grid, model.grid).tolist()
        ],
    }
