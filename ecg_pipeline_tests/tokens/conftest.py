"""Images that look enough like ECGs to have blank and inked patches."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.shards import write_index, write_shard
from ecg_pipeline_tests.images.conftest import filtered_mv  # noqa: F401

SIDE = 224


def plotted_images(count, seed):
    """(N, H, W) uint8: four traces an image, each a baseline with spikes of its own height and rhythm."""
    rng = np.random.default_rng(seed)
    images = np.full((count, SIDE, SIDE), 255, np.uint8)
    columns = np.arange(SIDE)
    for image in images:
        for baseline in (36, 86, 136, 186):
            rhythm = columns / rng.uniform(25, 60) + rng.uniform()
            spikes = rng.uniform(-30, 30) * np.exp(-(((rhythm % 1 - 0.5) / 0.06) ** 2))
            trace = baseline - spikes - 4 * np.sin(2 * np.pi * rhythm)
            levels = np.concatenate([[trace[0]], trace])
            for column in columns:
                low, high = sorted(levels[column : column + 2])
                image[int(low) : int(high) + 2, column] = 0
    return images


@pytest.fixture
def site(tmp_path):
    """Two shards, 40 and 20 images."""
    folder = tmp_path / "images"
    rows = []
    for shard, count in enumerate((40, 20)):
        write_shard(folder, shard, plotted_images(count, seed=shard))
        rows += [{"ecg_id": f"{shard}_{row}", "shard": shard, "row": row} for row in range(count)]
    write_index(folder, pl.DataFrame(rows, schema={"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}))
    return ImageShards(folder)
