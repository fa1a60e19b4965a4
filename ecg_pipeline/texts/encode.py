"""The tokens of a site's texts, in the shards of its ECGs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.signals.recordings import shard_ecgs
from ecg_pipeline.storage.files import digest_json
from ecg_pipeline.storage.shards import INDEX_SCHEMA, ArrayShards, Shard, build_shards, scan_tables, write_index
from ecg_pipeline.texts.negatives import NO_TEXT_ID, TextNegatives
from ecg_pipeline.texts.site_texts import ClinicalTexts
from ecg_pipeline.texts.tokenizer import TextTokenizer

REVISION = 1
"""Bumped by hand when this module's results change."""

TEXT_ID, LENGTH, TOKENS = 0, 1, slice(2, None)
"""Columns of a row of `TextTokens`."""


@dataclass(frozen=True)
class TextTokens(ArrayShards):
    """A site's texts as tokens: (n, 2 + L) int32 per shard, one row an ECG that has a text; the others have none.

    Columns of a row: the text's id; the number of its tokens, the end token among them; and L token ids, after them the
    padding. The id is the text's place in `text_negatives` (`TextNegatives`), so that equal ids are equal texts
    whatever the site; it is -1 for a text that no training patient of a pretraining site has.

    Attributes of the arrays: vocabulary (number of token ids), pad, end, unknown and mask (ids), and special, all ids
    that stand for no words, these four among them.
    """


def encode_site(
    store: WaveformStore,
    texts: ClinicalTexts,
    *,
    tokenizer: TextTokenizer,
    negatives: TextNegatives,
    out: Path,
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> TextTokens:
    """Encode the texts of a site's ECGs, shard by shard, into `out`.

    Shards of the same texts, tokenizer and ids are not made again; they may come from `previous`, an earlier output.
    """
    encode, ids = tokenizer.load(), negatives.ids()
    attributes = tokenizer.facts()
    said = texts.texts().select("ecg_id", "text")

    def of_shard(shard: int) -> pl.DataFrame:
        ecgs = shard_ecgs(store, shard).select("ecg_id", "shard")
        return ecgs.join(said, on="ecg_id", maintain_order="left").with_columns(
            id=pl.col("text").replace_strict(ids, default=NO_TEXT_ID, return_dtype=pl.Int32)
        )

    def work(shard: int) -> Shard:
        rows = of_shard(shard)
        array = text_rows(encode(rows["text"].to_list()), rows["id"].to_numpy())
        index = rows.select("ecg_id", "shard", pl.int_range(pl.len(), dtype=pl.Int32).alias("row"))
        return Shard(array, attributes, {"texts": index})

    def input_digest(shard: int) -> str:
        return digest_json([tokenizer.digest(), of_shard(shard).rows()])

    build_shards(store, out=out, work=work, input_digest=input_digest, previous=previous, progress=progress)
    write_index(out, scan_tables(out, "texts", shards=store.shards(), schema=INDEX_SCHEMA))
    return TextTokens(out)


def text_rows(encoded: tuple[NDArray[np.int32], NDArray[np.int32]], ids: NDArray[np.int32]) -> NDArray[np.int32]:
    """Rows of `TextTokens`, (n, 2 + L). encoded: token ids (n, L) and their numbers (n,). ids: (n,), of the texts."""
    token_ids, lengths = encoded
    return np.concatenate([ids[:, None], lengths[:, None], token_ids], axis=1).astype(np.int32)
