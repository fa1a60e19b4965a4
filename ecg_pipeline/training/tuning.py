"""What fine-tuning and linear probes share: facts on the data, a checkpoint a seed, the choice on held-out patients."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from ecg_pipeline.ecg import Progress
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.training.checkpoints import Checkpoint, FinetunedModel, seed_folder
from ecg_pipeline.training.loop import RunState
from ecg_pipeline.training.recipes import FinetuneRecipe, ProbeRecipe
from ecg_pipeline.training.tracker import Tracker
from ecg_pipeline.training.weights import save_checkpoint

Log = Callable[[int, Mapping[str, float | None]], None]
"""Logs one row of a trace, with its number from 1 on."""

TRACE = "trace.parquet"
"""File beside a checkpoint: what was tried, a row an epoch or a C, the first column being what is chosen."""


class TrainSeed(Protocol):
    """Trains the classifier of one seed and writes its trace to `out`; returns its weights and, for the config, seed,
    choice and the AUROC of it."""

    def __call__(  # noqa: D102
        self, seed: int, *, out: Path, log: Log, progress: Progress
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]: ...


def nothing_to_learn(train: pl.DataFrame) -> str | None:
    """Why no model can be trained on these ECGs, in words for a table; None if they have both labels.

    train: column label. A small fraction of a rare label may hold negative ECGs alone.
    """
    if train["label"].n_unique() > 1:
        return None
    held = "one label" if len(train) else "no label"
    return f"not trained: the {len(train)} training ECGs of this fraction hold {held}"


def tuning_facts(
    recipe: FinetuneRecipe | ProbeRecipe,
    *,
    train: pl.DataFrame,
    examples: int,
    selection: pl.DataFrame,
    chosen_by: str,
    where_undecided: str,
) -> dict[str, Any]:
    """How a model is trained, on whom, and how the choice is made, for its configs.

    examples: number of training examples. chosen_by: of what the highest AUROC decides. where_undecided: what is taken
    where the patients of `selection` do not have both labels.
    """
    if selection["label"].n_unique() < 2:
        chosen_by = f"{where_undecided}: the {recipe.chosen_on} patients do not have both labels"
    else:
        chosen_by += f" on {recipe.chosen_on} patients{': optimistic' if recipe.is_optimistic else ''}"
    return {
        "finetuning": asdict(recipe),
        "chosen_by": chosen_by,
        "optimistic": recipe.is_optimistic,
        **_counts("train", train),
        "train_examples": examples,
        **_counts(recipe.chosen_on, selection),
    }


def train_seeds(
    recipe: FinetuneRecipe | ProbeRecipe,
    train_seed: TrainSeed,
    *,
    facts: Mapping[str, Any],
    out: Path,
    tracker: Tracker,
    progress: Progress,
) -> FinetunedModel:
    """Write a checkpoint of each seed to `out`, and the config of all. Complete seeds are not trained again."""
    tracker.parameters(facts)
    for place, seed in enumerate(recipe.seeds):
        folder = seed_folder(out, seed)
        log = partial(_log, tracker, folder.name)
        if (folder / "config.json").exists():
            # The MLflow run of this process gets the whole curve of a seed that an earlier process trained.
            for row, point in enumerate(pl.read_parquet(folder / TRACE).iter_rows(named=True), start=1):
                log(row, point)
        else:
            weights, chosen = train_seed(
                seed,
                out=folder,
                log=log,
                progress=lambda done, total, place=place: progress(place * total + done, len(recipe.seeds) * total),
            )
            save_checkpoint(folder, state=weights, config={**facts, **chosen})
        RunState(folder, "cpu").discard()
    name = f"chosen_{recipe.chosen}"
    chosen = [Checkpoint(seed_folder(out, seed)).config()[name] for seed in recipe.seeds]
    write_json(out / "config.json", {**facts, f"{name}s": chosen})
    return FinetunedModel(out)


def leave_untrained(facts: Mapping[str, Any], reason: str, *, out: Path, tracker: Tracker) -> FinetunedModel:
    """Write a model without checkpoints, whose config says why: an output like the others, so that what follows it can
    say so, too."""
    facts = {**facts, "chosen_by": "nothing was trained", "not_trained": reason}
    tracker.parameters(facts)
    write_json(out / "config.json", facts)
    return FinetunedModel(out)


def loss_and_auroc(scored: pl.DataFrame) -> tuple[float | None, float | None]:
    """Mean cross entropy and AUROC of scored ECGs. None: both without any ECG, the AUROC without both classes."""
    if scored.is_empty():
        return None, None
    labels, scores = scored["label"].to_numpy(), scored["score"].to_numpy().astype(np.float64).clip(1e-7, 1 - 1e-7)
    loss = -np.mean(np.where(labels == 1, np.log(scores), np.log1p(-scores)))
    return float(loss), rank_auroc(labels, scores) if 0 < labels.sum() < len(labels) else None


def rank_auroc(labels: NDArray, scores: NDArray) -> float:
    """AUROC by score ranks; equal scores share their mean rank. (Importing scikit-learn takes longer than scoring.)"""
    _, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[places]
    positives = int((labels == 1).sum())
    least = positives * (positives + 1) / 2
    return float((ranks[labels == 1].sum() - least) / (positives * (len(labels) - positives)))


def is_better(auroc: float | None, best: float | None) -> bool:
    """Whether a choice replaces the best one so far: if its AUROC is higher, or always where there is no AUROC."""
    return auroc is None or best is None or auroc > best


def _log(tracker: Tracker, prefix: str, row: int, point: Mapping[str, float | None]) -> None:
    """Log one row of a trace under names such as `seed_0/train_loss`."""
    tracker.metrics(row, {f"{prefix}/{name}": value for name, value in point.items() if value is not None})


def _counts(split: str, table: pl.DataFrame) -> dict[str, int]:
    return {
        f"{split}_ecgs": len(table),
        f"{split}_patients": table["patient"].n_unique(),
        f"{split}_positives": int(table["label"].sum()),
    }
