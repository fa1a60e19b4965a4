"""Tokens stand beside their sheets: same records, one id a patch, nothing done twice."""

import numpy as np
import pytest

from ecg_pipeline.tokens.encode import BATCH, load_tokenizer
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.tokens.shards import tokenise_site
from ecg_pipeline.tokens.train import train_tokenizer


@pytest.fixture
def tokenizer(site, tmp_path):
    recipe = TokenizerRecipe(vocabulary=32, hidden=4, steps=40, batch=8)
    return train_tokenizer({"a": site}, frozenset(site.index()["record"]), recipe, tmp_path / "tokenizer")


def test_every_record_has_an_id_a_patch(site, tokenizer, tmp_path):
    tokens = tokenise_site(site, tokenizer, tmp_path / "tokens")
    assert tokens.index().equals(site.index())
    for part in site.parts():
        ids = tokens.read(part)
        assert (ids.shape, ids.dtype) == ((len(site.read(part)), 196), np.int16)
        assert ids.min() >= 0
        assert ids.max() < tokenizer.vocabulary


def test_parts_that_stand_are_kept(site, tokenizer, tmp_path):
    tokens = tokenise_site(site, tokenizer, tmp_path / "tokens")
    part = tokens.folder / "arrays.zarr" / "part_00000" / "zarr.json"
    before, told = part.stat().st_mtime_ns, []
    tokenise_site(site, tokenizer, tmp_path / "tokens", progress=lambda done, total: told.append((done, total)))
    assert part.stat().st_mtime_ns == before
    assert told == [(1, 2), (2, 2)]


def test_ids_do_not_depend_on_what_is_named_beside_them(site, tokenizer):
    sheets = site.read(0)
    assert len(sheets) > BATCH
    loaded = load_tokenizer(tokenizer)
    together = loaded.ids(sheets)
    assert len(np.unique(together)) > 8
    agree = np.concatenate([loaded.ids(sheet[None]) for sheet in sheets]) == together
    assert agree.mean() > 0.999


def test_patches_are_in_row_major_order(tokenizer):
    sheet = np.full((1, 224, 224), 255, np.uint8)
    sheet[0, 32:48, 160:176] = 0
    blank = np.full_like(sheet, 255)
    loaded = load_tokenizer(tokenizer)
    changed = np.flatnonzero(loaded.ids(sheet)[0] != loaded.ids(blank)[0])
    assert len(changed)
    rows, columns = changed // 14, changed % 14
    assert abs(rows - 2).max() <= 4
    assert abs(columns - 10).max() <= 4
