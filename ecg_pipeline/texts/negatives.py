"""For each training text the texts least like it, as negatives of ECG-text matching (D-BETA's N3S).

The authors search an index of vectors for what is nearest to -q, q a text's vector: on unit vectors these are the texts
with the lowest cosine. They are found here once, by blocks of the whole table of cosines, and among texts of the same
language only, because else a German "normal" would be the negative of an English one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import write_atomically, write_parquet
from ecg_pipeline.texts.similarity import tf_idf
from ecg_pipeline.texts.tokenizer import TextTokenizer

NO_TEXT_ID = -1
"""Stands for a text that is no training text, and in place of negatives that a text does not have."""

BLOCK_BYTES = 2**26
"""Limit of the cosines in memory at once: changes no result."""

DECIMALS = 5
"""To which cosines are rounded, so that the last bits of a sum do not decide; of equal ones the first text counts."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]
"""Texts to vectors (n, D) of any length; the cosine of two is how alike their texts are."""


@dataclass(frozen=True)
class TextNegatives:
    """The distinct training texts, each with those least like it. Files: `texts.parquet`, `texts.safetensors`.

    A text's id is its row, 0 to T - 1, in all arrays. `texts.safetensors` holds, all int32:

    - `negatives` (T, K): ids of the K least similar texts of its language, the least similar first, itself never among
      them. A language with n texts has n - 1 negatives at most; the rest of a row is -1. The only text of a language
      has none, a row of -1: an ECG with this text must not be given a negative.
    - `token_ids` (T, L) and `lengths` (T,): the texts as in `encode.TextTokens`, padded, with the end token.
    """

    folder: Path

    def table(self) -> pl.DataFrame:
        """A row a text, in the order of the ids: text, language, ecgs (of the training set that have it)."""
        return pl.read_parquet(self.folder / "texts.parquet")

    def ids(self) -> dict[str, int]:
        """The id of each text."""
        return {text: number for number, text in enumerate(self.table()["text"])}

    def arrays(self) -> dict[str, NDArray[np.int32]]:
        """The arrays by name."""
        return load_file(self.folder / "texts.safetensors")


def find_negatives(
    texts: pl.DataFrame,
    tokenizer: TextTokenizer,
    *,
    count: int,
    out: Path,
    embed: Embed = tf_idf,
    progress: Progress = no_progress,
) -> TextNegatives:
    """Find the `count` least similar texts of each distinct training text, and write them to `out`.

    texts: a row an ECG of the training set, columns text and language. embed: called with the distinct texts of one
    language at a time. Without any text, a ValueError.
    """
    if texts.is_empty():
        raise ValueError("none of the pretraining sites has a text on an ECG of a training patient")
    table = texts.group_by("text", "language").agg(ecgs=pl.len()).sort("text")
    negatives = np.full((len(table), count), NO_TEXT_ID, np.int32)
    done = 0
    for (_,), rows in table.with_row_index("id").group_by("language", maintain_order=True):
        ids = rows["id"].to_numpy()
        vectors = unit_vectors(embed(rows["text"].to_list()))
        size = max(1, BLOCK_BYTES // (8 * len(ids)))
        for start in range(0, len(ids), size):
            own = np.arange(start, min(start + size, len(ids)))
            found = least_similar(vectors[own], vectors, count=min(count, len(ids) - 1), but=own)
            negatives[ids[own], : found.shape[1]] = ids[found]
            done += len(own)
            progress(done, len(table))
    token_ids, lengths = tokenizer.load()(table["text"].to_list())
    arrays = {"token_ids": token_ids, "lengths": lengths, "negatives": negatives}
    write_parquet(out / "texts.parquet", table)
    write_atomically(out / "texts.safetensors", lambda path: save_file(arrays, path))
    return TextNegatives(out)


def unit_vectors(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, D) divided by their length; a zero vector stays one."""
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-10)


def least_similar(
    queries: NDArray[np.float32], index: NDArray[np.float32], *, count: int, but: NDArray[np.integer] | None = None
) -> NDArray[np.int64]:
    """The rows of an index with the lowest cosine to each query, the lowest first: (n, count).

    queries (n, D), index (m, D): unit vectors. but: (n,), a row of the index that is not taken, the query's own.
    """
    # Nearest to -q, as the authors search: for unit vectors the squared distance to -q is 2 + 2 cos.
    cosines = -(-queries @ index.T)
    # A whole number for each pair, in the order of the cosines and then of the rows, so that none are equal.
    order = np.rint(cosines * 10**DECIMALS).astype(np.int64) * len(index) + np.arange(len(index))
    if but is not None:
        order[np.arange(len(queries)), but] = np.iinfo(np.int64).max
    if count < len(index):
        nearest = np.argpartition(order, count, axis=1)[:, :count] if count else np.empty((len(queries), 0), np.int64)
    else:
        nearest = np.broadcast_to(np.arange(len(index)), order.shape)
    return np.take_along_axis(nearest, np.argsort(np.take_along_axis(order, nearest, axis=1), axis=1), axis=1)
