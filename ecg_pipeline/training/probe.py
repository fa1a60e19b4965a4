"""Linear probes: logistic regression on the standardised features of a frozen encoder, folded into one linear layer.

What is stored is the encoder with that layer as its output layer, an ordinary classifier.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.recipes import ProbeRecipe
from ecg_pipeline.training.score import mean_by_ecg
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

ROWS = 2**20
"""Rows read at once, at most: shards are smaller."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear layer, features (n, D) -> log-odds (n,): weight (D,) and bias, float64. iterations: of its fit."""

    weight: NDArray[np.float64]
    bias: float
    iterations: int

    def put(self, classifier: Classifier) -> None:
        """Make it the output layer of a classifier with one label. Another number of features is a ValueError."""
        layer = classifier.output_layer()
        if layer.weight.shape != (1, len(self.weight)):
            raise ValueError(
                f"the output layer of {type(classifier).__name__} is {tuple(layer.weight.shape)}, but there are "
                f"{len(self.weight)} features and one label"
            )
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(self.weight[None]))
            layer.bias.fill_(self.bias)


def fit_layers(features: NDArray[np.float32], labels: NDArray, recipe: ProbeRecipe) -> Iterator[Layer]:
    """The logistic regression of each C of the recipe, with the standardisation folded in.

    features: (n, D). labels: (n,) of 0 and 1, both of them. Features are standardised by their mean and population
    deviation in these rows; one that is constant gets no weight. scikit-learn's L-BFGS in float64, without randomness,
    with as many threads as torch; the same bits on one kind of processor with the same number of threads.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    scaler = StandardScaler(copy=False)
    standard = scaler.fit_transform(features.astype(np.float64))
    for c in recipe.c:
        regression = LogisticRegression(C=c, max_iter=recipe.iterations)
        with threadpool_limits(torch.get_num_threads()), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the trace has the number of iterations
            regression.fit(standard, labels)
        weight = regression.coef_[0] / scaler.scale_
        bias = float(np.ravel(regression.intercept_)[0] - np.sum(weight * scaler.mean_))
        yield Layer(weight, bias, int(np.max(regression.n_iter_)))


def fit_probe(
    new_classifier: Callable[[int], Classifier],
    recipe: ProbeRecipe,
    *,
    features: Callable[[int], Mapping[str, ArrayShards]],
    train: pl.DataFrame,
    selection: pl.DataFrame,
    facts: Mapping[str, Any],
    out: Path,
    tracker: Tracker | None = None,
    progress: Progress = no_progress,
) -> FinetunedModel:
    """Fit a probe on `train` for the encoder of each seed, and write it with the best C as a classifier to `out`.

    new_classifier, features: of a seed, the classifier whose output layer is replaced, and by site its features. The
    other arguments and the files are those of `finetune`; `trace.parquet` has one row a C. selection: the ECGs on which
    the C with the highest AUROC is chosen, of equal ones the strongest penalty; where no AUROC can be computed, the
    weakest. A `train` with one class gives a model without checkpoints, which says so.
    """

    def train_seed(seed: int, **options: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
        fitted, held_out = (_Examples.of(table, features(seed)) for table in (train, selection))
        return _fit_seed(new_classifier(seed).eval(), recipe, seed=seed, train=fitted, held_out=held_out, **options)

    about = tuning_facts(
        recipe,
        train=train,
        examples=_batches(train, features(recipe.seeds[0])).examples,
        selection=selection,
        chosen_by="frozen encoder; C of the logistic regression by highest AUROC",
        where_undecided="frozen encoder; the weakest penalty",
    )
    tracker = tracker or NoTracker()
    if reason := nothing_to_learn(train):
        return leave_untrained({**facts, **about}, reason, out=out, tracker=tracker)
    about["parameters"] = sum(one.numel() for one in new_classifier(recipe.seeds[0]).parameters())
    return train_seeds(recipe, train_seed, facts={**facts, **about}, out=out, tracker=tracker, progress=progress)


@dataclass(frozen=True, eq=False)
class _Examples:
    """Features (n, D) of the examples of a table, and its row for each of them."""

    features: NDArray[np.float32]
    rows: pl.DataFrame

    @classmethod
    def of(cls, table: pl.DataFrame, features: Mapping[str, ArrayShards]) -> "_Examples":
        """Read the examples of a table. All of them are in memory at once."""
        read = list(_batches(table, features).in_order(ROWS))
        if not read:
            return cls(np.empty((0, 0), np.float32), table)
        return cls(np.concatenate([arrays["features"] for arrays, _ in read]), pl.concat([rows for _, rows in read]))

    def scored(self, classifier: Classifier) -> pl.DataFrame:
        """The rows with the probability of each example."""
        if self.rows.is_empty():
            return self.rows.with_columns(score=pl.lit(None, pl.Float32))
        with torch.inference_mode():
            log_odds = classifier.classify(torch.from_numpy(self.features))
        return self.rows.with_columns(score=pl.Series(log_odds.sigmoid()[:, 0].numpy()))


def _batches(table: pl.DataFrame, features: Mapping[str, ArrayShards]) -> Batches:
    return Batches(arrays={"features": features}, table=table.select("ecg_id", "site", "patient", "label"))


def _fit_seed(
    classifier: Classifier,
    recipe: ProbeRecipe,
    *,
    seed: int,
    train: _Examples,
    held_out: _Examples,
    out: Path,
    log: Log,
    progress: Progress,
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Fit every C, write the trace, and return the classifier's weights with the best one and facts for the config."""
    chosen_auroc = f"{recipe.chosen_on}_auroc"
    trace: list[dict[str, float | None]] = []
    best: tuple[Layer, dict[str, float | None]] | None = None
    labels = train.rows["label"].to_numpy()
    for c, layer in zip(recipe.c, fit_layers(train.features, labels, recipe), strict=True):
        layer.put(classifier)
        loss, auroc = loss_and_auroc(mean_by_ecg(held_out.scored(classifier)))
        trace.append(
            {
                "c": c,
                "train_loss": loss_and_auroc(train.scored(classifier))[0],
                f"{recipe.chosen_on}_loss": loss,
                chosen_auroc: auroc,
                "iterations": float(layer.iterations),
            }
        )
        log(len(trace), trace[-1])
        progress(len(trace), len(recipe.c))
        if best is None or is_better(auroc, best[1][chosen_auroc]):
            best = layer, trace[-1]
    assert best is not None  # a recipe has at least one C
    layer, point = best
    layer.put(classifier)
    write_parquet(out / TRACE, pl.DataFrame(trace, infer_schema_length=None))
    if recipe.chosen_on == "validation":
        scored = mean_by_ecg(held_out.scored(classifier)).select("ecg_id", "patient", "label", "score")
        write_parquet(out / "validation.parquet", scored)
    return classifier.state_dict(), {"seed": seed, "chosen_c": point["c"], chosen_auroc: point[chosen_auroc]}
