"""The tokenizer of texts: the same bytes on every run, every text back from its tokens, and T5's own file."""

import os
import subprocess
import sys
from math import exp

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from ecg_pipeline.texts.clean import clean
from ecg_pipeline.texts.tokenizer import import_tokenizer, train_tokenizer
from ecg_pipeline.texts.unigram import train_unigram

FEW = (
    "sinus rhythm. normal ecg.",
    "sinus rhythm with left axis deviation",
    "sinusrhythmus linkstyp sonst normales ecg",
    "sinusrhythmus überdrehter linkstyp",
)
AGAIN = """
import sys
from pathlib import Path
from ecg_pipeline.texts.tokenizer import train_tokenizer
train_tokenizer(Path(sys.argv[1]).read_text().splitlines(), vocabulary=200, longest=32, out=Path(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def real(real_texts, tmp_path_factory):
    texts = real_texts["text"].to_list()
    return train_tokenizer(texts, vocabulary=1000, longest=64, out=tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """A tokenizer that knows few characters, ready to encode, and its facts."""
    made = train_tokenizer(FEW, vocabulary=60, longest=16, out=tmp_path_factory.mktemp("few"))
    return made.load(), made.facts()


def test_two_processes_train_the_same_bytes(real_texts, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(real_texts["text"][::20]))
    for seed in ("1", "2"):
        command = [sys.executable, "-c", AGAIN, str(tmp_path / "texts.txt"), str(tmp_path / seed)]
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": seed}, check=True)
    for name in ("tokenizer.json", "config.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_real_texts_come_back_from_their_tokens(real, real_texts):
    texts = sorted(set(real_texts["text"]))
    token_ids, lengths = real.load()(texts)
    read = Tokenizer.from_file(str(real.folder / "tokenizer.json"))
    facts = real.facts()
    for text, ids, length in zip(texts, token_ids.tolist(), lengths.tolist(), strict=True):
        assert set(ids[length:]) <= {facts["pad"]}
        assert ids[length - 1] == facts["end"]
        assert not set(ids[: length - 1]) & set(facts["special"])
        if length < 64:
            assert read.decode(ids[:length]) == text
    config = real.config()
    assert config["unknown_share"] == 0
    assert (config["kind"], facts["vocabulary"]) == ("trained", 1000)
    assert config["tokens_per_text"] < 15, "words, and no letters"


@given(text=st.text(max_size=60))
def test_no_text_has_a_special_token_but_its_end_and_unknown_characters(few, text):
    encode, facts = few
    token_ids, lengths = encode([clean(text) or ""])
    inside = token_ids[0, : lengths[0] - 1].tolist()
    assert not set(inside) & (set(facts["special"]) - {facts["unknown"]})
    assert token_ids[0, lengths[0] - 1] == facts["end"]


def test_long_texts_are_cut_and_keep_their_end(few):
    encode, facts = few
    token_ids, lengths = encode(["sinus rhythm " * 40])
    assert token_ids.shape == (1, 16)
    assert lengths.tolist() == [16]
    assert token_ids[0, -1] == facts["end"]


@given(st.lists(st.text("abcdeå ", max_size=12), max_size=12), st.integers(1, 40))
def test_a_vocabulary_has_every_character_and_is_a_distribution(texts, vocabulary):
    pieces = dict(train_unigram(texts, vocabulary=vocabulary))
    characters = {character for text in texts for word in text.split() for character in f"▁{word}"}
    assert characters <= pieces.keys()
    assert len(pieces) <= max(vocabulary, len(characters))
    assert pieces == dict(train_unigram(texts[::-1], vocabulary=vocabulary))
    assert 0 <= sum(map(exp, pieces.values())) <= 1.5 + len(characters)


def test_common_words_are_pieces_and_rare_ones_are_cut():
    pieces = dict(train_unigram(["normal rhythm"] * 50 + ["abnormal"], vocabulary=20))
    assert {"▁normal", "▁rhythm"} <= pieces.keys()
    assert "▁abnormal" not in pieces


def test_without_a_text_nothing_is_trained(tmp_path):
    with pytest.raises(ValueError, match="none of the pretraining sites has a text"):
        train_tokenizer([], vocabulary=100, longest=16, out=tmp_path)


def t5_folder(folder, specials=("<pad>", "</s>", "<unk>", "<extra_id_1>", "<extra_id_0>")):
    """A folder with the files of a T5."""
    from tokenizers import AddedToken, pre_tokenizers, processors

    tokenizer = Tokenizer(Unigram([(token, 0.0) for token in specials] + [("▁", -2.0), ("a", -3.0)], unk_id=2))
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in specials])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_padding(length=100)
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer.to_str())
    (folder / "config.json").write_text('{"vocab_size": 12}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_the_tokenizer_of_a_t5_is_taken_over_with_its_encoder(tmp_path):
    folder = t5_folder(tmp_path / "t5")
    made = import_tokenizer(folder, longest=8, texts=["a a", "b"], out=tmp_path / "made")
    assert made.facts() == {"vocabulary": 7, "pad": 0, "end": 1, "unknown": 2, "mask": 4, "special": [0, 1, 2, 3, 4]}
    token_ids, lengths = made.load()(["a"])
    assert (token_ids.tolist(), lengths.tolist()) == ([[5, 6, 1, 0, 0, 0, 0, 0]], [3])
    assert made.config()["unknown_share"] == pytest.approx(1 / 6, abs=1e-6)
    for name, copied in (("tokenizer.json", "."), ("config.json", "t5"), ("model.safetensors", "t5")):
        assert (made.folder / copied / name).read_bytes() == (folder / name).read_bytes()


def test_a_file_that_is_no_tokenizer_of_a_t5_says_so(tmp_path):
    other = t5_folder(tmp_path / "other", specials=("<pad>", "</s>", "<unk>", "[MASK]"))
    with pytest.raises(ValueError, match="has no token <extra_id_0>"):
        import_tokenizer(other, longest=8, texts=[], out=tmp_path / "made")
    (other / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is no file of a tokenizer"):
        import_tokenizer(other, longest=8, texts=[], out=tmp_path / "made")
    assert not (tmp_path / "made" / "config.json").exists()


def test_ids_are_int32(real):
    assert {array.dtype for array in real.load()(["normal ecg"])} == {np.dtype(np.int32)}
