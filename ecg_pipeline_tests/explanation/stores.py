"""Small waveform stores of synthetic hearts."""

import numpy as np
import polars as pl

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import ensure_group, shard_name, write_array
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate

HZ = 500


def beats(seconds, seed):
    """A recording (8, T) of a healthy heart in millivolts at `HZ`."""
    rng = np.random.default_rng(seed)
    heart = sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng)
    return simulate(heart, seconds=seconds, sampling_hz=HZ, rng=rng)[0]


def store_of(folder, recordings):
    """A store of one shard. recordings: (8, T) millivolts at `HZ` by ecg_id."""
    rows = []
    for place, (ecg_id, x_mv) in enumerate(recordings.items()):
        array = f"array_{place}"
        ensure_group(folder / "waveforms.zarr" / shard_name(0))
        counts = np.round(x_mv * 500).astype(np.int16)[None]
        write_array(folder / "waveforms.zarr" / shard_name(0) / array, counts)
        rows.append(
            {
                "ecg_id": ecg_id,
                "shard": 0,
                "array": array,
                "row": 0,
                "waveform_sha256": ecg_id,
                "microvolts_per_count": [2.0] * 8,
                "leads": list(INDEPENDENT_LEADS),
                "sampling_hz": HZ,
                "samples": counts.shape[-1],
            }
        )
    types = {"shard": pl.Int32, "row": pl.Int32, "sampling_hz": pl.Int32, "samples": pl.Int32}
    write_parquet(folder / "ecgs.parquet", pl.DataFrame(rows, schema_overrides=types))
    return WaveformStore(folder)
