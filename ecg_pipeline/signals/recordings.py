"""The recordings of a shard: their order in every output computed from a waveform store, and their digest."""

import polars as pl

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.storage.files import digest_json


def shard_ecgs(store: WaveformStore, shard: int) -> pl.DataFrame:
    """The ECGs of a shard in the order of their arrays, which is their order in the outputs."""
    return store.scan().filter(pl.col("shard") == shard).collect().sort("array", "row", maintain_order=True)


def waveform_digest(store: WaveformStore, shard: int) -> str:
    """Digest of the ids, order, waveforms and scales of a shard's ECGs."""
    columns = ("ecg_id", "array", "row", "waveform_sha256", "microvolts_per_count")
    return digest_json(shard_ecgs(store, shard).select(columns).rows())
