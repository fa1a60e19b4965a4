"""Fine-tuning for one task, one network a seed, by an honest protocol or by that of the released code (paper:
Fine-tuning)."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
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
from ecg_pipeline.models.checkpoints import Checkpoint, FinetunedModel, seed_folder
from ecg_pipeline.models.family import build_classifier, classifier_config
from ecg_pipeline.models.recipes import BeitRecipe, ModelRecipe
from ecg_pipeline.models.weights import save_checkpoint
from ecg_pipeline.storage.files import write_json, write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.loop import RunState, backward_and_step, seed_step
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.schedules import one_cycle
from ecg_pipeline.training.tracker import NoTracker, Tracker

SCORING_BATCH = 64


def finetune(
    model: ModelRecipe,
    recipe: FinetuneRecipe,
    start: Checkpoint | Path | None,
    images: Mapping[str, ImageShards],
    train: pl.DataFrame,
    selection: pl.DataFrame,
    out: Path,
    tracker: Tracker | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> FinetunedModel:
    """Fine-tune on `train` once a seed, each time keeping the epoch that does best on `selection`, into `out`.

    train, selection: columns record, site, patient, label (0 or 1). selection holds the patients of the recipe's
    `chosen_on`; nobody else may be among them. Beside each checkpoint stand `trace.parquet`, a row an epoch, and, where
    validation patients chose the epoch, `validation.parquet`: their record, patient, label and score at that epoch. The
    result is a function of the inputs and the seeds, on one kind of processor; a killed run goes on after its last
    epoch, and a seed that stands whole is not trained again. One class alone in `train` is a ValueError.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    if train["label"].n_unique() < 2:
        raise ValueError(
            f"{len(train)} training ECGs of {train['patient'].n_unique()} patients have one label: "
            "take a larger fraction, or look at the task's rule"
        )
    facts = {
        **classifier_config(model, start),
        "finetuning": asdict(recipe),
        "chosen_by": _reason(recipe, selection),
        "optimistic": recipe.is_optimistic,
        **_counts("train", train),
        **_counts(recipe.chosen_on, selection),
    }
    tracker.parameters(facts)
    batches = Batches({"sheets": images}, train.select("record", "site", "label"))
    held_out = Batches({"sheets": images}, selection.select("record", "site", "patient", "label"))
    for place, seed in enumerate(recipe.seeds):
        folder = seed_folder(out, seed)
        log = partial(_log_epoch, tracker, folder.name)
        if (folder / "config.json").exists():
            for point in pl.read_parquet(folder / "trace.parquet").iter_rows(named=True):
                log(point)
        else:
            weights, chosen = _finetune_seed(
                model,
                recipe,
                start,
                seed,
                batches,
                held_out,
                folder,
                log,
                device,
                lambda done, total, place=place: progress(place * total + done, len(recipe.seeds) * total),
            )
            save_checkpoint(folder, weights, {**facts, **chosen})
        RunState(folder, device).discard()
    epochs = [Checkpoint(seed_folder(out, seed)).config()["chosen_epoch"] for seed in recipe.seeds]
    write_json(out / "config.json", {**facts, "chosen_epochs": epochs})
    return FinetunedModel(out)


def _finetune_seed(
    model: ModelRecipe,
    recipe: FinetuneRecipe,
    start: Checkpoint | Path | None,
    seed: int,
    batches: Batches,
    held_out: Batches,
    out: Path,
    log: Callable[[Mapping[str, float | None]], None],
    device: str,
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train one network with its trace in `out`: the weights of its best epoch on `held_out`, and which that was."""
    steps = batches.steps(recipe.batch)
    network = build_classifier(model, start, seed).to(device)
    optimiser = _optimiser(model, recipe, network)
    schedule = one_cycle(optimiser, recipe.max_learning_rate, recipe.epochs, steps)
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
        for within, (arrays, rows) in enumerate(batches.epoch(recipe.batch, seed, epoch)):
            step = epoch * steps + within
            seed_step(seed, step)
            sheets, labels = torch.from_numpy(arrays["sheets"]).to(device), rows["label"].to_torch().long().to(device)
            with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
                logits = network(sheets)
            loss = cross_entropy(logits.float(), labels)
            backward_and_step(network, loss, optimiser, None, step)
            schedule.step()
            losses.append(loss.item())
            progress(step + 1, recipe.epochs * steps)
        loss, auroc = _loss_and_auroc(score(network, held_out, device))
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
    point = best["point"]
    if recipe.chosen_on == "validation":
        network.load_state_dict(best["network"])
        scored = score(network, held_out, device).select("record", "patient", "label", "score")
        write_parquet(out / "validation.parquet", scored)
    return best["network"], {"seed": seed, "chosen_epoch": int(point["epoch"]), chosen_auroc: point[chosen_auroc]}


def _log_epoch(tracker: Tracker, prefix: str, point: Mapping[str, float | None]) -> None:
    """Log one row of a trace. A run that goes on logs the epochs before it, too, so that its curves are whole."""
    values = {f"{prefix}/{name}": value for name, value in point.items() if value is not None}
    tracker.metrics(int(point["epoch"] or 0), values)


def score(network: nn.Module, batches: Batches, device: str) -> pl.DataFrame:
    """Scores of a table's ECGs: its columns and `score`, the probability of the positive class, in stored order."""
    network.eval()
    scored = []
    with torch.inference_mode():
        for arrays, rows in batches.in_order(SCORING_BATCH):
            logits = network(torch.from_numpy(arrays["sheets"]).to(device))
            scored.append(rows.with_columns(score=pl.Series(logits.float().softmax(dim=1)[:, 1].cpu().numpy())))
    return pl.concat(scored) if scored else batches.table.with_columns(score=pl.lit(None, pl.Float32)).clear()


def _optimiser(model: ModelRecipe, recipe: FinetuneRecipe, network: nn.Module) -> torch.optim.Optimizer:
    """AdamW; under the official protocol plain Adam for whatever is no BEiT. The schedule sets the learning rate."""
    if recipe.protocol == "official" and not isinstance(model, BeitRecipe):
        return torch.optim.Adam(network.parameters(), lr=recipe.max_learning_rate, fused=True)
    decay = recipe.weight_decay
    return torch.optim.AdamW(network.parameters(), lr=recipe.max_learning_rate, weight_decay=decay, fused=True)


def _loss_and_auroc(scored: pl.DataFrame) -> tuple[float | None, float | None]:
    """Mean cross entropy and AUROC of scored ECGs; an AUROC needs both classes, and a loss at least one ECG."""
    if scored.is_empty():
        return None, None
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy().astype(np.float64).clip(1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores)))
    return float(loss), _auroc(labels, scores) if 0 < labels.sum() < len(labels) else None


def _auroc(labels: NDArray, scores: NDArray) -> float:
    """AUROC by ranks; equal scores share theirs. Not scikit-learn's, whose import takes longer than scoring does."""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]
    positives = int((labels == 1).sum())
    least = positives * (positives + 1) / 2
    return float((ranks[labels == 1].sum() - least) / (positives * (len(labels) - positives)))


def _is_better(auroc: float | None, best: float | None) -> bool:
    """The earlier of two equals wins; without labels of both kinds there is nothing to compare, and the last counts."""
    return auroc is None or best is None or auroc > best


def _reason(recipe: FinetuneRecipe, selection: pl.DataFrame) -> str:
    """Why an epoch is chosen, in words for a table."""
    if selection["label"].n_unique() < 2:
        return f"the last epoch: the {recipe.chosen_on} patients do not have both labels"
    return f"highest AUROC on {recipe.chosen_on} patients{': optimistic' if recipe.is_optimistic else ''}"


def _counts(part: str, table: pl.DataFrame) -> dict[str, int]:
    return {
        f"{part}_ecgs": len(table),
        f"{part}_patients": table["patient"].n_unique(),
        f"{part}_positives": int(table["label"].sum()),
    }
