"""Fine-tuning of a classifier for one task, once per seed (paper: Fine-tuning)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.cost import step_cost
from ecg_pipeline.training.loop import RunState, backward_and_step, seed_global_generator
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.schedules import one_cycle
from ecg_pipeline.training.score import score
from ecg_pipeline.training.tracker import NoTracker, Tracker
from ecg_pipeline.training.tuning import (
    TRACE,
    Log,
    is_better,
    leave_untrained,
    loss_and_auroc,
    nothing_to_learn,
    train_seeds,
    tuning_facts,
)


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
    not trained again. A `train` with only one class gives a model without checkpoints, which says so.
    """
    disable_malloc_trim()
    batches = Batches(arrays={"view": view}, table=train.select("ecg_id", "site", "label"))
    held_out = Batches(arrays={"view": view}, table=selection.select("ecg_id", "site", "patient", "label"))

    def train_seed(seed: int, **options: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        network = new_classifier(seed).to(device)
        return _finetune_seed(network, recipe, seed=seed, batches=batches, held_out=held_out, device=device, **options)

    about = tuning_facts(
        recipe,
        train=train,
        examples=batches.examples,
        selection=selection,
        chosen_by="highest AUROC",
        where_undecided="the last epoch",
    )
    tracker = tracker or NoTracker()
    if reason := nothing_to_learn(train):
        return leave_untrained({**facts, **about}, reason, out=out, tracker=tracker)
    about |= _cost(new_classifier(recipe.seeds[0]).to(device), recipe, batches=batches, device=device)
    return train_seeds(recipe, train_seed, facts={**facts, **about}, out=out, tracker=tracker, progress=progress)


def _cost(network: Classifier, recipe: FinetuneRecipe, *, batches: Batches, device: str) -> dict[str, int]:
    """Parameters and operations of one seed, counted on its first batch."""
    arrays, rows = next(batches.epoch(0, batch=recipe.batch, seed=recipe.seeds[0]))
    network.train()

    def step() -> None:
        examples = shifted(torch.from_numpy(arrays["view"]), recipe.time_shift).to(device)
        _loss(network, examples, rows, device=device).backward()

    return step_cost(network, step, steps=recipe.epochs * batches.steps(recipe.batch))


def _loss(network: Classifier, examples: Tensor, rows: pl.DataFrame, *, device: str) -> Tensor:
    """Mean cross entropy of a batch. examples: of the view, on the device. rows: column label."""
    labels = rows["label"].to_torch().float().to(device)[:, None]
    with torch.autocast(device, torch.bfloat16, enabled=device != "cpu"):
        log_odds = network(examples)
    return binary_cross_entropy_with_logits(log_odds.float(), labels)


def _finetune_seed(
    network: Classifier,
    recipe: FinetuneRecipe,
    *,
    seed: int,
    batches: Batches,
    held_out: Batches,
    out: Path,
    log: Log,
    device: str,
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train the network of one seed and write its trace to `out`.

    Returns the weights of the epoch that is best on `held_out`, and for the config: seed, chosen epoch, its AUROC.
    """
    steps = batches.steps(recipe.batch)
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
            loss = _loss(network, examples, rows, device=device)
            backward_and_step(network, optimiser, loss=loss, clip=None, step=step)
            schedule.step()
            losses.append(loss.item())
            progress(step + 1, recipe.epochs * steps)
        loss, auroc = loss_and_auroc(score(network, held_out, device=device))
        trace.append(
            {
                "epoch": float(epoch + 1),
                "train_loss": float(np.mean(losses)),
                f"{recipe.chosen_on}_loss": loss,
                chosen_auroc: auroc,
            }
        )
        log(epoch + 1, trace[-1])
        if not best or is_better(auroc, best["point"][chosen_auroc]):
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

    write_parquet(out / TRACE, pl.DataFrame(trace, infer_schema_length=None))
    point = best["point"]
    if recipe.chosen_on == "validation":
        network.load_state_dict(best["network"])
        scored = score(network, held_out, device=device).select("ecg_id", "patient", "label", "score")
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


def _optimiser(recipe: FinetuneRecipe, network: Classifier) -> torch.optim.Optimizer:
    """The recipe's optimiser. With a layer decay, each stage has its own learning rate, the head the recipe's."""
    stages = network.stages() if recipe.layer_decay < 1 else [list(network.parameters())]
    rates = [recipe.max_learning_rate * recipe.layer_decay ** (len(stages) - 1 - place) for place in range(len(stages))]
    groups = [{"params": stage, "lr": rate} for stage, rate in zip(stages, rates, strict=True)]
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.max_learning_rate, weight_decay=recipe.weight_decay, fused=True)
