"""Text tokens: a row for each ECG that has a text, in the shards of the store, with ids that all sites share."""

import numpy as np
import pytest

from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline.texts.encode import LENGTH, TEXT_ID, TOKENS, encode_site
from ecg_pipeline.texts.negatives import find_negatives
from ecg_pipeline.texts.site_texts import collect_texts, training_texts
from ecg_pipeline.texts.tokenizer import train_tokenizer

KEY = fixed_key("test")
SITES = ("mount_sinai", "beth_israel")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By site the store, the texts and the tokens; and the negatives, of the first site's texts alone."""
    folder = tmp_path_factory.mktemp("made")
    write_hospital_system(HospitalSystem(patients=60, ecgs=90, seed=1), folder / "system")
    drops = {site: DropFolder(site, folder / "system" / site, "muse_xml", patients="synthetic") for site in SITES}
    stores, texts = {}, {}
    for site, drop in drops.items():
        listing, recipe = list_files(drop), IngestRecipe(files_per_shard=8)
        stores[site] = ingest_site(drop, listing, recipe=recipe, key=KEY, out=folder / site / "store")
        texts[site] = collect_texts(drop, listing, key=KEY, out=folder / site / "texts")
    said = training_texts([texts[SITES[0]]], stores[SITES[0]].ecgs())
    tokenizer = train_tokenizer(said["text"].to_list(), vocabulary=300, longest=32, out=folder / "tokenizer")
    found = find_negatives(said, tokenizer, count=8, out=folder / "negatives")
    fitted = {"tokenizer": tokenizer, "negatives": found}
    tokens = {site: encode_site(stores[site], texts[site], **fitted, out=folder / site / "tokens") for site in SITES}
    return stores, texts, tokens, tokenizer, found


def test_each_ecg_with_a_text_has_its_tokens_in_its_shard(made):
    stores, texts, tokens, tokenizer, found = made
    encode, ids = tokenizer.load(), found.ids()
    for site in SITES:
        located = stores[site].ecgs().join(texts[site].texts(), on="ecg_id").select("ecg_id", "shard", "text")
        index = tokens[site].index()
        assert len(set(index["shard"])) > 2
        assert index.select("ecg_id", "shard").sort("ecg_id").equals(located.drop("text").sort("ecg_id"))
        rows = tokens[site].read_ecgs(located["ecg_id"].to_list())
        token_ids, lengths = encode(located["text"].to_list())
        assert rows.dtype == np.int32
        assert np.array_equal(rows[:, TOKENS], token_ids)
        assert np.array_equal(rows[:, LENGTH], lengths)
        assert rows[:, TEXT_ID].tolist() == [ids.get(text, -1) for text in located["text"]]
        assert tokens[site].attributes() == tokenizer.facts()


def test_ids_are_rows_of_the_negatives_whatever_the_site(made):
    _, _, tokens, _, found = made
    arrays = found.arrays()
    for site in SITES:
        rows = np.concatenate([array for _, array in tokens[site]])
        known = rows[rows[:, TEXT_ID] >= 0]
        assert len(known) > 5
        assert np.array_equal(known[:, TOKENS], arrays["token_ids"][known[:, TEXT_ID]])
        assert np.array_equal(known[:, LENGTH], arrays["lengths"][known[:, TEXT_ID]])
    assert (rows[:, TEXT_ID] == -1).any(), "the second site has texts that no training patient has"


def test_what_is_the_same_is_reused_and_gives_the_same_bytes(made, tmp_path, monkeypatch):
    stores, texts, tokens, tokenizer, found = made
    site, fitted = SITES[0], {"tokenizer": tokenizer, "negatives": found}
    fresh = encode_site(stores[site], texts[site], **fitted, out=tmp_path / "fresh")
    assert all(fresh.digest(shard) == tokens[site].digest(shard) for shard in fresh.shards())
    monkeypatch.setattr("ecg_pipeline.texts.encode.text_rows", None)
    reused = encode_site(
        stores[site],
        texts[site],
        tokenizer=tokenizer,
        negatives=found,
        out=tmp_path / "reused",
        previous=tokens[site].folder,
    )
    assert reused.index().equals(fresh.index())
