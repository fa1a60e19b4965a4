"""Fine-tuning of a classifier for one task, once per seed (paper: Fine-tuning)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import write_json, write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import Checkpoint, FinetunedModel, seed_folder
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.loop import RunState, backward_and_step, seed_global_generator
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.schedules import one_cycle
from ecg_pipeline.training.score import score
from ecg_pipeline.training.tracker import NoTracker, Tracker
from ecg_pipeline.training.weights import save_checkpoint


def finetune(
    new_classifier: Callable[[int], Classifier],
    recipe: FinetuneRecipe,
    *,
    view: Mapping[str, ArrayShards],
    train: pl.DataFrame,
    selection: pl.DataFrame,
    facts: Mapping[str, Any],
    out: Path,
    tracker: Tracker | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> FinetunedModel:
    """Fine-tune on `train` once per seed and write the weights of the best epoch of each to `out`.

    new_classifier: makes the classifier of a seed. view: by site, what it reads. train, selection: columns ecg_id,
    site, patient, label (0 or 1). selection: the ECGs of the split `recipe.chosen_on`, on which the epoch with the
    highest AUROC is chosen. facts: for the configs, such as the model's recipe.

    Files beside each checkpoint: `trace.parquet`, one row per epoch; `validation.parquet`, the validation ECGs' ecg_id,
    patient, label and score at the chosen epoch (not under the official protocol, which has no validation ECGs).
    Deterministic on one kind of processor. A killed run resumes after its last saved epoch; seeds that are complete are
    not trained again. A `train` with only one class is a ValueError.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    if train["label"].n_unique() < 2:
        raise ValueError(
            f"{len(train)} training ECGs of {train['patient'].n_unique()} patients have one label: "
            "use a larger fraction, or check the task's rule"
        )
    batches = Batches(arrays={"view": view}, table=train.select("ecg_id", "site", "label"))
    facts = {
        **facts,
        "finetuning": asdict(recipe),
        "chosen_by": _chosen_by(recipe, selection),
        "optimistic": recipe.is_optimistic,
        **_counts("train", train),
        "train_examples": batches.examples,
        **_counts(recipe.chosen_on, selection),
    }
    tracker.parameters(facts)
    held_out = selection.select("ecg_id", "site", "patient", "label")
    for place, seed in enumerate(recipe.seeds):
        folder = seed_folder(out, seed)
        log = partial(_log_epoch, tracker, folder.name)
        if (folder / "config.json").exists():
            # The MLflow run of this process gets the whole curve of a seed that an earlier process trained.
            for point in pl.read_parquet(folder / "trace.parquet").iter_rows(named=True):
                log(point)
        else:
            weights, chosen = _finetune_seed(
                new_classifier(seed).to(device),
                recipe,
                seed=seed,
                batches=batches,
                held_out=held_out,
                out=folder,
                log=log,
                device=device,
                progress=lambda done, total, place=place: progress(place * total + done, len(recipe.seeds) * total),
            )
            save_checkpoint(folder, state=weights, config={**facts, **chosen})
        RunState(folder, device).discard()
    epochs = [Checkpoint(seed_folder(out, seed)).config()["chosen_epoch"] for seed in recipe.seeds]
    write_json(out / "config.json", {**facts, "chosen_epochs": epochs})
    return FinetunedModel(out)


def _finetune_seed(
    network: Classifier,
    recipe: FinetuneRecipe,
    *,
    seed: int,
    batches: Batches,
    held_out: pl.DataFrame,
    out: Path,
    log: Callable[[Mapping[str, float | None]], None],
    device: str,
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train the network of one seed and write its trace to `out`.

    Returns the weights of the epoch that is best on `held_out`, and for the config: seed, chosen epoch, its AUROC.
    """
    steps, view = batches.steps(recipe.batch), batches.arrays["view"]
    optimiser = _optimiser(recipe, network)
    peaks = [group["lr"] for group in optimiser.param_groups]
    schedule = one_cycle(optimiser, peak=peaks, epochs=recipe.epochs, steps_per_epoch=steps)
    chosen_auroc = f"{recipe.chosen_on}_auroc"
    trace: list[dict[str, float | None]] = []
    best: dict[str, Any] = {}
    state = RunState(out, device)
    if (last := state.load()) is not None:
        network.load_state_dict(last["network"])
        optimiser.load_state_dict(last["optimiser"])
        schedule.load_state_dict(last["schedule"])
        trace, best = last["trace"], last["best"]

    for epoch in range(len(trace), recipe.epochs):
        network.train()
        losses = []
        for within, (arrays, rows) in enumerate(batches.epoch(epoch, batch=recipe.batch, seed=seed)):
            step = epoch * steps + within
            seed_global_generator(seed, step=step)
            examples = shifted(torch.from_numpy(arrays["view"]), recipe.time_shift).to(device)
            labels = rows["label"].to_torch().float().to(device)[:, None]
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                log_odds = network(examples)
            loss = binary_cross_entropy_with_logits(log_odds.float(), labels)
            backward_and_step(network, optimiser, loss=loss, clip=None, step=step)
            schedule.step()
            losses.append(loss.item())
            progress(step + 1, recipe.epochs * steps)
        loss, auroc = _loss_and_auroc(score(network, view, held_out, device=device))
        trace.append(
            {
                "epoch": float(epoch + 1),
                "train_loss": float(np.mean(losses)),
                f"{recipe.chosen_on}_loss": loss,
                chosen_auroc: auroc,
            }
        )
        log(trace[-1])
        if not best or _is_better(auroc, best["point"][chosen_auroc]):
            best = {"point": trace[-1], "network": {k: v.detach().clone() for k, v in network.state_dict().items()}}
        if state.should_save():
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
    point = best["point"]
    if recipe.chosen_on == "validation":
        network.load_state_dict(best["network"])
        scored = score(network, view, held_out, device=device).select("ecg_id", "patient", "label", "score")
        write_parquet(out / "validation.parquet", scored)
    return best["network"], {"seed": seed, "chosen_epoch": int(point["epoch"]), chosen_auroc: point[chosen_auroc]}


def shifted(examples: Tensor, share: float) -> Tensor:
    """Examples (B, ..., T), each rolled along its last axis, time, by a random number of at most this share of T."""
    samples = examples.shape[-1]
    if not (most := round(share * samples)):
        return examples
    by = torch.randint(-most, most + 1, (len(examples), 1))
    places = (torch.arange(samples) - by) % samples  # (B, T)
    return examples.gather(-1, places.reshape(len(examples), *[1] * (examples.ndim - 2), samples).expand_as(examples))


def _log_epoch(tracker: Tracker, prefix: str, point: Mapping[str, float | None]) -> None:
    """Log one row of a trace under names such as `seed_0/train_loss`."""
    values = {f"{prefix}/{name}": value for name, value in point.items() if value is not None}
    tracker.metrics(int(point["epoch"] or 0), values)


def _optimiser(recipe: FinetuneRecipe, network: Classifier) -> torch.optim.Optimizer:
    """The recipe's optimiser. With a layer decay, each stage has its own learning rate, the head the recipe's."""
    stages = network.stages() if recipe.layer_decay < 1 else [list(network.parameters())]
    rates = [recipe.max_learning_rate * recipe.layer_decay ** (len(stages) - 1 - place) for place in range(len(stages))]
    groups = [{"params": stage, "lr": rate} for stage, rate in zip(stages, rates, strict=True)]
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.max_learning_rate, weight_decay=recipe.weight_decay, fused=True)


def _loss_and_auroc(scored: pl.DataFrame) -> tuple[float | None, float | None]:
    """Mean cross entropy and AUROC of scored ECGs. None: both without any ECG, the AUROC without both classes."""
    if scored.is_empty():
        return None, None
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy().astype(np.float64).clip(1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores)))
    return float(loss), _auroc(labels, scores) if 0 < labels.sum() < len(labels) else None


def _auroc(labels: NDArray, scores: NDArray) -> float:
    """AUROC by score ranks; equal scores share their mean rank. (Importing scikit-learn takes longer than scoring.)"""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]
    positives = int((labels == 1).sum())
    least = positives * (positives + 1) / 2
    return float((ranks[labels == 1].sum() - least) / (positives * (len(labels) - positives)))


def _is_better(auroc: float | None, best: float | None) -> bool:
    """Whether an epoch replaces the best one: only if its AUROC is higher, or always where there is no AUROC."""
    return auroc is None or best is None or auroc > best


def _chosen_by(recipe: FinetuneRecipe, selection: pl.DataFrame) -> str:
    """How the epoch is chosen, in words for a table."""
    if selection["label"].n_unique() < 2:
        return f"the last epoch: the {recipe.chosen_on} patients do not have both labels"
    return f"highest AUROC on {recipe.chosen_on} patients{': optimistic' if recipe.is_optimistic else ''}"


def _counts(split: str, table: pl.DataFrame) -> dict[str, int]:
    return {
        f"{split}_ecgs": len(table),
        f"{split}_patients": table["patient"].n_unique(),
        f"{split}_positives": int(table["label"].sum()),
    }
