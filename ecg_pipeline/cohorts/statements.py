"""Statements as targets of supervised pretraining: which codes are predicted, and what each ECG says of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.cohorts.tasks import StatementRule, TaskRecipe
from ecg_pipeline.ecg import Progress, RecipeError, no_progress
from ecg_pipeline.ingest.labels import ClinicalLabels
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals.recordings import shard_ecgs
from ecg_pipeline.storage.files import digest_json, write_parquet
from ecg_pipeline.storage.shards import INDEX_SCHEMA, ArrayShards, Shard, build_shards, scan_tables, write_index

CODES_REVISION = 1
"""Bumped by hand when the codes chosen from the same statements change."""

TARGETS_REVISION = 1
"""Bumped by hand when the targets made of the same statements change."""

STATED, NOT_STATED, UNKNOWN = 1, 0, -1

CODE_SCHEMA = {"system": pl.String, "code": pl.String, "positives": pl.Int64}


@dataclass(frozen=True)
class StatementRecipe:
    """Which statements are predicted.

    minimum: ECGs of the pretraining set that must have a code. exclude: codes that are not predicted, of any system.
    Codes that a task counts as positive are never predicted, if a model of the task is pretrained on statements.
    """

    minimum: int = 20
    exclude: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.minimum < 1:
            raise RecipeError(f"a minimum of {self.minimum} ECGs must be at least 1", "minimum")
        if len(set(self.exclude)) < len(self.exclude):
            raise RecipeError("a code is listed twice", "exclude")


@dataclass(frozen=True)
class StatementCodes:
    """The codes that are predicted. File: `codes.parquet`."""

    folder: Path

    def table(self) -> pl.DataFrame:
        """One row a code, in the order of the targets: system, code, and positives, ECGs of the pretraining set."""
        return pl.read_parquet(self.folder / "codes.parquet")


@dataclass(frozen=True)
class StatementTargets(ArrayShards):
    """A site's statements: (n, K) int8 per shard, one row an ECG of the waveform store: 1 stated, 0 not stated, -1
    unknown, where the ECG has no statement of the code's system.

    Attribute of the arrays: codes, each as `system:code`.
    """


def answers(tasks: Iterable[TaskRecipe]) -> list[tuple[str, str]]:
    """System and code of every statement that a task counts as positive, sorted."""
    rules = (task.rule for task in tasks)
    return sorted({(rule.system, code) for rule in rules if isinstance(rule, StatementRule) for code in rule.positive})


def choose_codes(
    labels: Mapping[str, ClinicalLabels],
    ecgs: pl.DataFrame,
    recipe: StatementRecipe,
    *,
    answers: Iterable[tuple[str, str]],
    out: Path,
) -> StatementCodes:
    """Choose the codes that enough ECGs of the pretraining set have, and write them to `out`, by system and code.

    labels: by site. ecgs: the pretraining set. answers: what tasks ask for. Without any code, a ValueError.
    """
    counted = pl.concat([_counts(one.labels(), ecgs) for one in labels.values()]).group_by("system", "code").sum()
    asked = pl.DataFrame(list(answers), {"system": pl.String, "code": pl.String}, orient="row")
    chosen = (
        counted.filter((pl.col("positives") >= recipe.minimum) & ~pl.col("code").is_in(list(recipe.exclude)))
        .join(asked, on=["system", "code"], how="anti")
        .select(pl.col(name).cast(kind) for name, kind in CODE_SCHEMA.items())
        .sort("system", "code")
    )
    if chosen.is_empty():
        raise ValueError(
            f"no statement is made of {recipe.minimum} ECGs of the pretraining set, apart from what tasks ask for and "
            "what `statements.exclude` lists: lower `statements.minimum`, or pretrain on a site with statements"
        )
    write_parquet(out / "codes.parquet", chosen)
    return StatementCodes(out)


def _counts(labels: pl.DataFrame, ecgs: pl.DataFrame) -> pl.DataFrame:
    """ECGs of the set that have each code of one site."""
    stated = labels.filter(pl.col("ecg_id").is_in(ecgs["ecg_id"].implode()))
    return stated.group_by("system", "code").agg(positives=pl.col("ecg_id").n_unique())


def target_site(
    store: WaveformStore,
    labels: ClinicalLabels,
    codes: StatementCodes,
    *,
    out: Path,
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> StatementTargets:
    """Write the targets of every ECG of a site, shard by shard, into `out`.

    Shards of the same ECGs, statements and codes are not made again; they may come from `previous`, an earlier output.
    In PTB-XL a likelihood of 0 means "unknown": such a statement is made, as `StatementRule` has it.
    """
    chosen = codes.table().select("system", "code")
    statements = _located(store, labels, set(chosen["system"]))

    def work(shard: int) -> Shard:
        ecgs = shard_ecgs(store, shard)
        targets = _targets(ecgs["ecg_id"].to_list(), statements.get(shard, NO_STATEMENTS), chosen)
        attributes = {"codes": [f"{system}:{code}" for system, code in chosen.rows()]}
        index = ecgs.select("ecg_id", "shard", pl.int_range(pl.len(), dtype=pl.Int32).alias("row"))
        return Shard(targets, attributes, {"ecgs": index})

    def input_digest(shard: int) -> str:
        stated = statements.get(shard, NO_STATEMENTS)
        return digest_json([shard_ecgs(store, shard)["ecg_id"].to_list(), stated.rows(), chosen.rows()])

    build_shards(store, out=out, work=work, input_digest=input_digest, previous=previous, progress=progress)
    write_index(out, scan_tables(out, "ecgs", shards=store.shards(), schema=INDEX_SCHEMA))
    return StatementTargets(out)


NO_STATEMENTS = pl.DataFrame(schema={"ecg_id": pl.String, "system": pl.String, "code": pl.String})


def _located(store: WaveformStore, labels: ClinicalLabels, systems: set[str]) -> dict[int, pl.DataFrame]:
    """The statements of some systems by shard of their ECG, sorted: ecg_id, system, code."""
    statements = labels.labels().filter(pl.col("system").is_in(list(systems)) & pl.col("ecg_id").is_not_null())
    located = (
        store.scan()
        .select("ecg_id", "shard")
        .join(statements.lazy().select("ecg_id", "system", "code").unique(), on="ecg_id")
        .sort("shard", "ecg_id", "system", "code")
        .collect()
    )
    return {rows["shard"][0]: rows.drop("shard") for rows in located.partition_by("shard", maintain_order=True)}


def _targets(ecg_ids: list[str], statements: pl.DataFrame, codes: pl.DataFrame) -> NDArray[np.int8]:
    """(n, K) of the ECGs of one shard. statements: ecg_id, system, code. codes: system, code."""
    targets = np.full((len(ecg_ids), len(codes)), UNKNOWN, np.int8)
    rows = pl.DataFrame({"ecg_id": ecg_ids}, {"ecg_id": pl.String}).with_row_index("row")
    columns = codes.with_row_index("column")
    by_row = statements.join(rows, on="ecg_id")
    known = by_row.select("row", "system").unique().join(columns, on="system")
    targets[known["row"], known["column"]] = NOT_STATED
    stated = by_row.join(columns, on=["system", "code"])
    targets[stated["row"], stated["column"]] = STATED
    return targets
