"""Token shards have the ECGs of the image shards, one id a patch, and are not computed twice."""

import numpy as np
import pytest

from ecg_pipeline.tokens.encode import BATCH, load_tokenizer
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.tokens.shards import tokenise_site
from ecg_pipeline.tokens.train import train_tokenizer


@pytest.fixture
def tokenizer(site, tmp_path):
    recipe = TokenizerRecipe(vocabulary=32, hidden=4, steps=40, batch=8)
    return train_tokenizer(
        recipe, images={"a": site}, ecg_ids=frozenset(site.index()["ecg_id"]), out=tmp_path / "tokenizer"
    )


def test_every_ecg_has_an_id_a_patch(site, tokenizer, tmp_path):
    tokens = tokenise_site(site, tokenizer, tmp_path / "tokens")
    assert tokens.index().equals(site.index())
    for shard in site.shards():
        ids = tokens.read(shard)
        assert (ids.shape, ids.dtype) == ((len(site.read(shard)), 196), np.int16)
        assert ids.min() >= 0
        assert ids.max() < tokenizer.vocabulary


def test_complete_shards_are_kept(site, tokenizer, tmp_path):
    tokens = tokenise_site(site, tokenizer, tmp_path / "tokens")
    shard = tokens.folder / "arrays.zarr" / "shard_00000" / "zarr.json"
    before, reported = shard.stat().st_mtime_ns, []
    tokenise_site(site, tokenizer, tmp_path / "tokens", progress=lambda done, total: reported.append((done, total)))
    assert shard.stat().st_mtime_ns == before
    assert reported == [(1, 2), (2, 2)]


def test_ids_do_not_depend_on_the_batch(site, tokenizer):
    images = site.read(0)
    assert len(images) > BATCH
    loaded = load_tokenizer(tokenizer)
    together = loaded.encode(images)
    assert len(np.unique(together)) > 8
    agree = np.concatenate([loaded.encode(image[None]) for image in images]) == together
    assert agree.mean() > 0.999


def test_patches_are_in_row_major_order(tokenizer):
    image = np.full((1, 224, 224), 255, np.uint8)
    image[0, 32:48, 160:176] = 0
    blank = np.full_like(image, 255)
    loaded = load_tokenizer(tokenizer)
    changed = np.flatnonzero(loaded.encode(image)[0] != loaded.encode(blank)[0])
    assert len(changed)
    rows, columns = changed // 14, changed % 14
    assert abs(rows - 2).max() <= 4
    assert abs(columns - 10).max() <= 4
