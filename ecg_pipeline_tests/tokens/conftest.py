"""Sheets that look enough like ECGs to have blank and drawn cells."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.shards import PartsWriter

SIDE = 224


def drawn_sheets(count, seed):
    """(N, H, W) uint8: four traces a sheet, each a baseline with spikes of its own height and rhythm."""
    rng = np.random.default_rng(seed)
    sheets = np.full((count, SIDE, SIDE), 255, np.uint8)
    columns = np.arange(SIDE)
    for sheet in sheets:
        for baseline in (36, 86, 136, 186):
            rhythm = columns / rng.uniform(25, 60) + rng.uniform()
            spikes = rng.uniform(-30, 30) * np.exp(-(((rhythm % 1 - 0.5) / 0.06) ** 2))
            trace = baseline - spikes - 4 * np.sin(2 * np.pi * rhythm)
            levels = np.concatenate([[trace[0]], trace])
            for column in columns:
                low, high = sorted(levels[column : column + 2])
                sheet[int(low) : int(high) + 2, column] = 0
    return sheets


@pytest.fixture
def site(tmp_path):
    """Two parts, 40 and 20 sheets."""
    folder = tmp_path / "images"
    writer, rows = PartsWriter(folder), []
    for part, count in enumerate((40, 20)):
        writer.write(part, drawn_sheets(count, seed=part))
        rows += [{"record": f"{part}_{row}", "part": part, "row": row} for row in range(count)]
    writer.finish(pl.DataFrame(rows, schema={"record": pl.String, "part": pl.Int32, "row": pl.Int32}))
    return ImageShards(folder)
