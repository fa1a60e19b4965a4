"""Views that a network can learn something from in seconds, and a tiny network to pretrain."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import polars as pl

from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.heartbeit.recipes import TOKENS, HeartBeitPretraining, HeartBeitRecipe, MaskRecipe
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.pretrain import pretrain

SIDE = 64
VOCABULARY = 8
INDEX = {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}

TINY = HeartBeitRecipe(image_px=SIDE, patch_px=16, width=32, depth=2, heads=2)
MASKS = MaskRecipe(patches=6, smallest_block=2)
SHORT = HeartBeitPretraining(epochs=6, batch=8, learning_rate=3e-3, warmup_epochs=1, mask=MASKS)


def names(shards: int, rows: int) -> list[str]:
    """The ecg_id of every row of a view with one example an ECG."""
    return [f"r{shard}-{row}" for shard in range(shards) for row in range(rows)]


def write_view(
    folder: Path, arrays: Sequence[np.ndarray], ecg_ids: Sequence[str] | None = None, **attributes: object
) -> ArrayShards:
    """A view in as many shards as there are arrays. ecg_ids: of all rows; one ECG may have several."""
    rows = []
    for shard, array in enumerate(arrays):
        write_shard(folder, shard, array, attributes=attributes)
        rows += [(f"r{shard}-{row}", shard, row) for row in range(len(array))]
    index = pl.DataFrame(rows, schema=INDEX, orient="row")
    write_index(folder, index if ecg_ids is None else index.with_columns(ecg_id=pl.Series(list(ecg_ids))))
    return ArrayShards(folder)


def bars(labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Images (n, SIDE, SIDE) uint8: a black bar at one of two heights, which is the label."""
    images = np.full((len(labels), SIDE, SIDE), 255, np.uint8)
    for image, label in zip(images, labels, strict=True):
        top = (12 if label else 40) + rng.integers(0, 4)
        image[top : top + 6, rng.integers(0, 10) : 54] = 0
    return images


def ink_tokens(images: np.ndarray) -> np.ndarray:
    """Tokens (n, 16) int16 of images: the mean ink of each patch."""
    return (images.reshape(-1, 4, 16, 4, 16).mean(axis=(2, 4)).reshape(-1, 16) // 32).astype(np.int16)


def table_of(ecg_ids: Sequence[str], labels: Sequence[int]) -> pl.DataFrame:
    """Columns ecg_id, site, patient, label; each ECG is of a patient of its own."""
    columns = {"ecg_id": ecg_ids, "site": "s", "patient": ecg_ids, "label": list(labels)}
    return pl.DataFrame(columns, schema_overrides={"label": pl.Int8})


def pretrained(examples, out, recipe=SHORT, model=TINY, **options):
    """HeartBEiT pretrained on (images, tokens, table), of whose table all ECGs are used."""
    images, tokens, table = examples
    arrays = {IMAGES: {"s": images}, TOKENS: {"s": tokens}}
    family = FAMILIES["heartbeit"]
    return pretrain(
        lambda seed: family.objective(model, recipe, arrays=arrays, fitted={}, table=table, seed=seed),
        recipe,
        batches=Batches(arrays=arrays, table=table),
        facts={"model": asdict(model), "origin": family.objective_name},
        out=out,
        **options,
    )
