"""Images that a network can learn something from in seconds."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.shards import write_index, write_shard
from ecg_pipeline.tokens.shards import TokenShards

SIDE = 64
INDEX = {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}


def write_shards(folder, arrays):
    rows = []
    for shard, array in enumerate(arrays):
        write_shard(folder, shard, array)
        rows += [(f"r{shard}-{row}", shard, row) for row in range(len(array))]
    write_index(folder, pl.DataFrame(rows, schema=INDEX, orient="row"))


@pytest.fixture(scope="session")
def examples(tmp_path_factory):
    """(ImageShards, TokenShards, table): a bar at one of two heights is the label; a token is a patch's mean ink."""
    rng = np.random.default_rng(0)
    images = np.full((48, SIDE, SIDE), 255, np.uint8)
    labels = rng.integers(0, 2, 48)
    for image, label in zip(images, labels, strict=True):
        top = (12 if label else 40) + rng.integers(0, 4)
        image[top : top + 6, rng.integers(0, 10) : 54] = 0
    patches = images.reshape(48, 4, 16, 4, 16).mean(axis=(2, 4)).reshape(48, 16)
    tokens = (patches // 32).astype(np.int16)
    folder = tmp_path_factory.mktemp("images")
    write_shards(folder / "images", np.split(images, 3))
    write_shards(folder / "tokens", np.split(tokens, 3))
    names = [f"r{shard}-{row}" for shard in range(3) for row in range(16)]
    table = pl.DataFrame(
        {"ecg_id": names, "site": "s", "patient": names, "label": labels.tolist()}, schema_overrides={"label": pl.Int8}
    )
    return ImageShards(folder / "images"), TokenShards(folder / "tokens"), table
