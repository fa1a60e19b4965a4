"""Negatives: the least similar texts of the same language, as the authors' search finds them."""

import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ecg_pipeline.texts import negatives
from ecg_pipeline.texts.negatives import find_negatives, least_similar, unit_vectors
from ecg_pipeline.texts.similarity import tf_idf
from ecg_pipeline.texts.tokenizer import train_tokenizer
from ecg_pipeline_tests.conformance.test_mutations import rewritten


@pytest.fixture(scope="module")
def found(real_texts, tmp_path_factory):
    """The negatives of real texts, and the tokenizer."""
    folder = tmp_path_factory.mktemp("negatives")
    tokenizer = train_tokenizer(real_texts["text"].to_list(), vocabulary=1000, longest=64, out=folder / "tokenizer")
    return find_negatives(real_texts, tokenizer, count=64, out=folder / "negatives"), tokenizer


def golden(shared):
    """Candidates of the released search, and those found here, for the same vectors."""
    folder = shared / "golden" / "founder_dbeta"
    arrays, said = load_file(folder / "dbeta_small.safetensors"), json.loads((folder / "dbeta_small.json").read_text())
    query = unit_vectors(arrays["n3s.query_tokens"].mean(axis=1))
    chosen = least_similar(query, unit_vectors(arrays["n3s.db"]), count=said["n3s"]["k"])
    return said["n3s"], chosen[0].tolist()


def test_candidates_are_those_of_the_released_search(shared):
    wanted, chosen = golden(shared)
    assert chosen == wanted["candidates_in_order"]


def test_a_search_for_plus_q_finds_others(shared, monkeypatch):
    rewritten(least_similar, "cosines = -(-queries @ index.T)", "cosines = -(queries @ index.T)", monkeypatch)
    wanted, chosen = golden(shared)
    assert chosen != wanted["candidates_in_order"]


def test_every_real_text_has_the_64_least_similar_of_its_language(found, real_texts):
    made, tokenizer = found
    table, arrays = made.table(), made.arrays()
    assert table["text"].to_list() == sorted(set(real_texts["text"]))
    assert table["ecgs"].sum() == len(real_texts)
    chosen = arrays["negatives"]
    assert chosen.shape == (len(table), 64)
    assert (chosen >= 0).all()
    language = table["language"].to_numpy()
    assert (language[chosen] == language[:, None]).all()
    assert (chosen != np.arange(len(table))[:, None]).all()
    token_ids, lengths = tokenizer.load()(table["text"].to_list())
    assert np.array_equal(arrays["token_ids"], token_ids)
    assert np.array_equal(arrays["lengths"], lengths)
    for name in ("de", "en", "sv"):
        ids = np.flatnonzero(language == name)
        vectors = unit_vectors(tf_idf(table["text"].gather(ids).to_list()))
        cosines = vectors @ vectors.T
        place = {number: row for row, number in enumerate(ids.tolist())}
        for row in range(0, len(ids), 17):
            mine = [place[number] for number in chosen[ids[row]].tolist()]
            others = np.setdiff1d(np.arange(len(ids)), [*mine, row])
            assert cosines[row, mine].max() <= cosines[row, others].min() + 2e-5
            assert (np.diff(cosines[row, mine]) >= -2e-5).all()


def test_negatives_do_not_depend_on_blocks_nor_on_the_order_of_ecgs(found, real_texts, tmp_path, monkeypatch):
    made, tokenizer = found
    monkeypatch.setattr(negatives, "BLOCK_BYTES", 100_000)
    again = find_negatives(real_texts.reverse(), tokenizer, count=64, out=tmp_path)
    for name in ("texts.parquet", "texts.safetensors"):
        assert (again.folder / name).read_bytes() == (made.folder / name).read_bytes()


def test_a_language_with_few_texts_has_fewer_and_one_text_alone_none(found, tmp_path):
    rows = [("a", "normal ecg", "en"), ("b", "atrial flutter", "en"), ("c", "normal ecg", "en")]
    rows += [("d", "sinus rhythm", "en"), ("e", "normales ecg", "de"), ("f", "normales ecg", "de")]
    texts = pl.DataFrame(rows, ("ecg_id", "text", "language"), orient="row")
    made = find_negatives(texts, found[1], count=4, out=tmp_path)
    assert made.table().rows() == [
        ("atrial flutter", "en", 1),
        ("normal ecg", "en", 2),
        ("normales ecg", "de", 2),
        ("sinus rhythm", "en", 1),
    ]
    assert made.arrays()["negatives"].tolist() == [[1, 3, -1, -1], [0, 3, -1, -1], [-1] * 4, [0, 1, -1, -1]]
    assert made.ids() == {"atrial flutter": 0, "normal ecg": 1, "normales ecg": 2, "sinus rhythm": 3}
    with pytest.raises(ValueError, match="has a text"):
        find_negatives(texts.clear(), found[1], count=4, out=tmp_path)


@given(st.integers(1, 12), st.integers(0, 12), st.randoms(use_true_random=False))
def test_the_least_similar_are_all_that_a_sort_would_give(size, count, random):
    vectors = unit_vectors(np.array([[random.randint(-2, 2) for _ in range(3)] for _ in range(size)], np.float32))
    count = min(count, size - 1)
    own = np.arange(size)
    chosen = least_similar(vectors, vectors, count=count, but=own)
    assert chosen.shape == (size, count)
    cosines = np.rint(vectors @ vectors.T * 10**negatives.DECIMALS)
    for row in range(size):
        wanted = sorted((cosines[row, other], other) for other in range(size) if other != row)[:count]
        assert chosen[row].tolist() == [other for _, other in wanted]
