"""Pretraining by any family's objective, once per seed (paper: Pre-training)."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl
import torch
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import write_json, write_parquet
from ecg_pipeline.storage.parallel import disable_malloc_trim
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import PretrainedModel, seed_folder
from ecg_pipeline.training.cost import step_cost
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline.training.loop import RunState, clip_and_step
from ecg_pipeline.training.objective import Objective
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.schedules import UNCORRECTED_EPS, corrected_eps
from ecg_pipeline.training.tracker import NoTracker, Tracker
from ecg_pipeline.training.weights import save_checkpoint

SINGLE_PROCESS = ProcessGroup()

LOGGED_EVERY = 10
"""Steps between the points of a curve in the tracker; the trace has every step."""


def pretrain(
    new_objective: Callable[[int], Objective],
    recipe: PretrainRecipe,
    *,
    batches: Batches,
    facts: Mapping[str, Any],
    out: Path,
    tracker: Tracker | None = None,
    process_group: ProcessGroup = SINGLE_PROCESS,
    micro_batch_size: int | None = None,
    progress: Progress = no_progress,
) -> PretrainedModel:
    """Pretrain a network per seed and write to `out`, for each, a checkpoint and `trace.parquet`, one row per step.

    new_objective: makes the objective of a seed with a new network. batches: the arrays that it reads. facts: for the
    configs, such as the model's recipe.

    A killed run resumes from its last saved state and gives the same bits on a CPU of the same kind; on a GPU, where
    the backward pass of attention adds in no fixed order, the same up to rounding. Seeds that are complete are not
    trained again. The number of processes and `micro_batch_size` (examples in one forward pass; None is all)
    change the result by rounding only. The main process writes; the others return when everything is written.
    """
    disable_malloc_trim()
    tracker = tracker or NoTracker()
    facts = {**facts, "pretraining": asdict(recipe), "examples": batches.examples}
    if process_group.is_main:
        objective = new_objective(recipe.seeds[0])
        facts |= _cost(
            objective, recipe, batches=batches, micro_batch_size=micro_batch_size, device=process_group.device
        )
    tracker.parameters(facts)
    for place, seed in enumerate(recipe.seeds):
        folder = seed_folder(out, seed)
        is_done = (folder / "config.json").exists()
        process_group.barrier()  # every process has looked before one writes
        if is_done:
            if process_group.is_main:
                RunState(folder, process_group.device).discard()
                # The MLflow run of this process gets the whole curve of a seed that an earlier process trained.
                for point in pl.read_parquet(folder / "trace.parquet").gather_every(LOGGED_EVERY).iter_rows(named=True):
                    _log_step(tracker, folder.name, point)
            continue
        _pretrain_seed(
            new_objective(seed),
            recipe,
            seed=seed,
            batches=batches,
            facts=facts,
            out=folder,
            tracker=tracker,
            process_group=process_group,
            micro_batch_size=micro_batch_size,
            progress=lambda done, total, place=place: progress(place * total + done, len(recipe.seeds) * total),
        )
    if process_group.is_main:
        names = [seed_folder(out, seed).name for seed in recipe.seeds]
        write_json(out / "config.json", {**facts, "checkpoints": names})
    process_group.barrier()
    return PretrainedModel(out)


def _pretrain_seed(
    objective: Objective,
    recipe: PretrainRecipe,
    *,
    seed: int,
    batches: Batches,
    facts: Mapping[str, Any],
    out: Path,
    tracker: Tracker,
    process_group: ProcessGroup,
    micro_batch_size: int | None,
    progress: Progress,
) -> None:
    """Train the network of one seed, from the last saved state if there is one, and write its checkpoint to `out`."""
    groups = -(-batches.size(recipe.batch) // objective.group)
    if groups < process_group.size:
        raise ValueError(
            f"a batch has {groups} x {objective.group} examples for {process_group.size} processes: use fewer processes"
        )
    steps, device = batches.steps(recipe.batch), process_group.device
    rates = recipe.learning_rates(steps)
    network = objective.network.to(device).train()
    optimiser = torch.optim.AdamW(objective.parameter_groups(recipe.weight_decay), lr=recipe.learning_rate, fused=True)
    trace: list[dict[str, float]] = []
    counts = torch.zeros((), dtype=torch.long)
    state = RunState(out, device)
    if (last := state.load()) is not None:
        network.load_state_dict(last["network"])
        optimiser.load_state_dict(last["optimiser"])
        trace, counts = last["trace"], last["counts"].cpu()

    wrapped = process_group.wrap(network)
    began, seen = time.monotonic(), 0
    for step, arrays in _steps(batches, recipe, seed=seed, first=len(trace)):
        batch = len(next(iter(arrays.values())))
        micro_batches = [
            objective.micro_batch(arrays, places, step=step, device=device)
            for places in _divide(process_group.local_slice(batch, objective.group), objective.group, micro_batch_size)
        ]
        counted = process_group.all_reduce(torch.stack([objective.count(one) for one in micro_batches]).sum(dim=0))
        count = max(1, int(counted.sum()))  # a batch may have no term, such as one of which no label is known
        optimiser.zero_grad(set_to_none=True)
        sums = torch.zeros((), device=device)
        for micro_batch in micro_batches:
            # DDP averages gradients over processes at the last micro-batch; scaling by their number gives the sum.
            is_synced = micro_batch is micro_batches[-1] or process_group.size == 1
            with nullcontext() if is_synced else wrapped.no_sync():  # type: ignore[operator]
                sums = sums + objective.backward(wrapped, micro_batch, weight=process_group.size / count)
        for group in optimiser.param_groups:
            group["lr"] = float(rates[step])
            if UNCORRECTED_EPS in group:
                group["eps"] = corrected_eps(group[UNCORRECTED_EPS], beta2=group["betas"][1], step=step)
        point = objective.point(process_group.all_reduce(sums), count)
        norm = clip_and_step(network, optimiser, loss=point["loss"], clip=recipe.clip, step=step)
        trace.append({"step": float(step), "learning_rate": float(rates[step]), **point, "gradient_norm": norm})
        counts = counts + counted.cpu()
        seen += batch
        if not process_group.is_main:
            continue
        if step % LOGGED_EVERY == 0 or step + 1 == len(rates):
            speed = {"examples_per_second": seen / (time.monotonic() - began)}
            _log_step(tracker, out.name, trace[-1] | speed)
        progress((step + 1) * batch, len(rates) * batch)
        if state.should_save():
            weights = {"network": network.state_dict(), "optimiser": optimiser.state_dict()}
            state.save(weights | {"trace": trace, "counts": counts})

    if process_group.is_main:
        write_parquet(out / "trace.parquet", pl.DataFrame(trace))
        examples = len(trace) * batches.size(recipe.batch)
        config = {**facts, "seed": seed, **_summary(trace, steps), **objective.facts(counts, examples)}
        save_checkpoint(out, state=objective.state(), config=config)
        state.discard()
    process_group.barrier()


def _cost(
    objective: Objective, recipe: PretrainRecipe, *, batches: Batches, micro_batch_size: int | None, device: str
) -> dict[str, int]:
    """Parameters and operations of one seed, counted on its first batch, in one process."""
    _, arrays = next(_steps(batches, recipe, seed=recipe.seeds[0], first=0))
    network = objective.network.to(device).train()

    def step() -> None:
        batch = range(len(next(iter(arrays.values()))))
        for places in _divide(batch, objective.group, micro_batch_size):
            micro_batch = objective.micro_batch(arrays, places, step=0, device=device)
            objective.backward(network, micro_batch, weight=1 / len(batch))

    return step_cost(network, step, steps=recipe.epochs * batches.steps(recipe.batch))


def _steps(
    batches: Batches, recipe: PretrainRecipe, *, seed: int, first: int
) -> Iterator[tuple[int, dict[str, NDArray]]]:
    """The batches of a run from step `first` on, with their step number."""
    steps = batches.steps(recipe.batch)
    for epoch in range(first // steps, recipe.epochs):
        for step, (arrays, _) in enumerate(batches.epoch(epoch, batch=recipe.batch, seed=seed), epoch * steps):
            if step >= first:
                yield step, arrays


def _log_step(tracker: Tracker, prefix: str, point: Mapping[str, float]) -> None:
    """Log one row of a trace under names such as `seed_0/loss`."""
    tracker.metrics(int(point["step"]), {f"{prefix}/{name}": value for name, value in point.items()})


def _divide(places: range, group: int, micro_batch_size: int | None) -> list[range]:
    """Places of a batch in consecutive micro-batches: whole groups one by one, or as many examples as are asked for."""
    size = group if group > 1 else micro_batch_size or len(places)
    return [places[first : first + size] for first in range(0, len(places), size)]


def _summary(trace: list[dict[str, float]], steps_per_epoch: int) -> dict[str, Any]:
    """Number of steps, and mean metrics of the last epoch."""
    last = pl.DataFrame(trace).tail(steps_per_epoch).mean().row(0, named=True)
    return {
        "steps": len(trace),
        "last_epoch": {name: round(value, 6) for name, value in last.items() if name != "step"},
    }
