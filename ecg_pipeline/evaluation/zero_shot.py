"""Zero-shot: how well a pretrained network that reads texts tells positive ECGs from negative ones by a sentence.

Nothing is trained. The score of an ECG is the dot product of its vector and that of a prompt, a sentence on a positive
ECG (D-BETA, Pham et al. 2025, zero-shot classification). It is no probability: it only orders ECGs, so there are no
Brier score, calibration or operating points. Beside it stand two controls: the same prompts on an untrained network,
and the same network with the prompts of other tasks.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.models.start import start_words
from ecg_pipeline.storage.files import read_json, write_json, write_parquet
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.texts.clean import normalise
from ecg_pipeline.texts.tokenizer import TextTokenizer

if TYPE_CHECKING:
    from ecg_pipeline.models.family import ModelRecipe, Vectors
    from ecg_pipeline.training.checkpoints import PretrainedModel

REVISION = 1
"""Bumped by hand when this module's results change."""

PRETRAINED, UNTRAINED = "pretrained", "untrained"
"""Which network scored: the pretrained one of a seed, or one whose weights are random by the same seed."""

ALL = "all"
"""In place of a language: the mean over the prompts in all languages."""

TURN = ("network", "prompts", "language")
"""Columns that say how an ECG was scored."""

SCHEMA = {
    "ecg_id": pl.String,
    "site": pl.String,
    "patient": pl.String,
    "label": pl.Int8,
    "seed": pl.Int64,
    **dict.fromkeys(TURN, pl.String),
    "score": pl.Float64,
}
"""Columns of the predictions."""

BATCH = 64

Prompts = Mapping[str, Mapping[str, str]]
"""Sentences by task and language."""

TokenIds = Mapping[str, Mapping[str, Sequence[int]]]
"""Token ids of sentences by task and language."""


@dataclass(frozen=True)
class ZeroShot:
    """A pretrained network tried on the prompts of a task at one site. Files: `predictions.parquet`, `metrics.json`."""

    folder: Path

    def predictions(self) -> pl.DataFrame:
        """Columns as in `SCHEMA`, one row an ECG, seed and way of scoring; none if the network reads no texts.

        prompts: the task whose prompts were used, its own or, as a control, another. score: raw dot product.
        """
        return pl.read_parquet(self.folder / "predictions.parquet")

    def metrics(self) -> dict[str, Any]:
        """Counts; `auroc` and `average_precision`, as in `summary.summarise`, of the pretrained network with the task's
        own prompts, all languages together; under `scores` those of each way of scoring; `prompts` as they were
        encoded, with their tokens; under `model` what was pretrained. Missing metrics are null, and `reason` says why.
        """
        return read_json(self.folder / "metrics.json")


def zero_shot(
    pretrained: "PretrainedModel",
    view: ArrayShards,
    tested: pl.DataFrame,
    *,
    model: "ModelRecipe",
    task: str,
    prompts: Prompts,
    tokenizer: TextTokenizer,
    recipe: EvaluationRecipe,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> ZeroShot:
    """Score `tested` by prompts with the network of each seed, pretrained and untrained, and write the files to `out`.

    model: the network's recipe. view: what it reads. tested: columns ecg_id, site (one), patient, label. task: the one
    whose labels these are; `prompts` has its own and those of other tasks, which the pretrained networks alone are
    tried on. Weights without a text encoder give no scores, and the reason in their place.
    """
    from ecg_pipeline.evaluation.summary import ECG_COLUMNS
    from ecg_pipeline.models.family import NoTextEncoder
    from ecg_pipeline.models.load import family_of

    table, family = tested.select(ECG_COLUMNS), family_of(model)
    token_ids, said = _encoded(prompts, tokenizer)
    vocabulary = tokenizer.facts()["vocabulary"]
    checkpoints = {one.config().get("seed", 0): one for one in pretrained.checkpoints()}
    scored, reason = [pl.DataFrame(schema=SCHEMA)], None
    try:
        for done, (seed, checkpoint) in enumerate(checkpoints.items(), start=1):
            turns = ((PRETRAINED, checkpoint, token_ids), (UNTRAINED, None, {task: token_ids[task]}))
            for network, start, asked in turns:
                vectors = family.vectors(model, start, vocabulary=vocabulary, seed=seed, device=device)
                scores = score_prompts(vectors, view, table, token_ids=asked)
                scored.append(_columns(scores.with_columns(seed=pl.lit(seed), network=pl.lit(network))))
            progress(done * len(table), len(checkpoints) * len(table))
    except NoTextEncoder as error:
        scored, reason = scored[:1], f"zero-shot is not possible: {error}"
    predictions = pl.concat(scored).sort(*TURN, "seed", "ecg_id")
    config = pretrained.config()
    about = {
        "prompts": said,
        "model": {"seeds": list(checkpoints), "initialisation": config["origin"], **start_words(config)},
    }
    write_parquet(out / "predictions.parquet", predictions)
    write_json(
        out / "metrics.json", {**summarise_scores(predictions, table, recipe, task=task, reason=reason), **about}
    )
    return ZeroShot(out)


def score_prompts(vectors: "Vectors", view: ArrayShards, table: pl.DataFrame, *, token_ids: TokenIds) -> pl.DataFrame:
    """The table's rows with the columns prompts, language and score, one for each prompt, and for each task one for
    their mean over languages (`ALL`). Of several examples of an ECG the mean is given.

    table: columns ecg_id, site (one), and others. token_ids: each without padding.
    """
    from ecg_pipeline.training.batches import Batches

    asked = [(task, language) for task, by_language in token_ids.items() for language in by_language]
    texts = vectors.texts([token_ids[task][language] for task, language in asked])
    if table.is_empty():
        said = {"prompts": pl.String, "language": pl.String, "score": pl.Float64}
        return pl.DataFrame(schema={**table.schema, **said})
    arrays = {"view": {str(table["site"].first()): view}}
    batches = []
    for read, rows in Batches(arrays=arrays, table=table).in_order(BATCH):
        products = vectors.ecgs(read["view"]) @ texts.T
        batches += [
            rows.with_columns(
                prompts=pl.lit(task), language=pl.lit(language), score=pl.Series(products[:, column].astype(float))
            )
            for column, (task, language) in enumerate(asked)
        ]
    keys = [*table.columns, "prompts", "language"]
    each = pl.concat(batches).group_by(keys, maintain_order=True).agg(pl.col("score").mean())
    mean = each.group_by(*table.columns, "prompts", maintain_order=True).agg(pl.col("score").mean())
    return pl.concat([each, mean.with_columns(language=pl.lit(ALL)).select(each.columns)])


def summarise_scores(
    predictions: pl.DataFrame, table: pl.DataFrame, recipe: EvaluationRecipe, *, task: str, reason: str | None = None
) -> dict[str, Any]:
    """Counts of the tested ECGs and the metrics of `ZeroShot.metrics`. reason: why there are no scores."""
    from ecg_pipeline.evaluation.summary import ONE_LABEL, by_ecg, or_reason, seeds_of, with_intervals
    from ecg_pipeline.metrics.table import WITH_INTERVAL

    nothing = {metric.name: None for metric in WITH_INTERVAL}
    summary: dict[str, Any] = {
        "ecgs": len(table),
        "patients": table["patient"].n_unique(),
        "positives": int(table["label"].sum()),
        "draws": recipe.bootstrap_draws,
        **nothing,
        "scores": [],
    }
    if reason or not 0 < summary["positives"] < summary["ecgs"]:
        return summary | {"reason": reason or ONE_LABEL}

    def metrics_of(rows: pl.DataFrame) -> dict[str, Any]:
        ecgs, scores = by_ecg(rows)
        labels, patients = ecgs["label"].to_numpy(), ecgs["patient"].to_numpy()
        return with_intervals(labels, scores, patients, seeds=seeds_of(rows), recipe=recipe)

    for turn, rows in predictions.group_by(TURN, maintain_order=True):
        found = or_reason(lambda rows=rows: metrics_of(rows))
        summary["scores"].append({**dict(zip(TURN, turn, strict=True)), **nothing, **found})
        if turn == (PRETRAINED, task, ALL):
            summary |= found
    return summary


def _encoded(prompts: Prompts, tokenizer: TextTokenizer) -> tuple[TokenIds, dict[str, Any]]:
    """Token ids of prompts, and what is stored of them: the words as they were encoded, with the numbers of their
    tokens and of those that the tokenizer does not know."""
    encode, unknown = tokenizer.load(), tokenizer.facts()["unknown"]
    token_ids: dict[str, dict[str, list[int]]] = {}
    said: dict[str, dict[str, Any]] = {}
    for task, by_language in prompts.items():
        for language, sentence in by_language.items():
            words = normalise(unicodedata.normalize("NFC", sentence))
            padded, lengths = encode([words])
            ids = padded[0, : lengths[0]].tolist()
            token_ids.setdefault(task, {})[language] = ids
            about = {"words": words, "tokens": len(ids), "unknown": ids.count(unknown)}
            said.setdefault(task, {})[language] = about
    return token_ids, said


def _columns(table: pl.DataFrame) -> pl.DataFrame:
    return table.select(pl.col(name).cast(kind) for name, kind in SCHEMA.items())
