"""Usage of a vocabulary, and that a collapsed tokenizer is detected."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.encode import measure_usage
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.tokens.tokenizer import id_counts, save_tokenizer, signs_of_collapse, usage
from ecg_pipeline.tokens.train import train_tokenizer

VOCABULARY = 32


@given(st.lists(st.integers(0, VOCABULARY - 1), min_size=1))
def test_usage_lies_between_one_id_alone_and_all_alike(ids):
    used = usage(id_counts(np.array(ids), VOCABULARY))
    different = len(set(ids))
    assert 1 - 1e-9 <= used["perplexity"] <= different + 1e-9
    assert used["used"] == different / VOCABULARY
    assert 1 / different <= used["commonest"] <= 1


def test_ids_that_are_used_alike_have_a_perplexity_of_their_number():
    used = usage(id_counts(np.repeat([3, 7, 9], 5), VOCABULARY))
    assert used == {"perplexity": pytest.approx(3), "commonest": pytest.approx(1 / 3), "used": 3 / VOCABULARY}


def tokenizer_of(network, out, images):
    made = save_tokenizer(
        out, state=network.state_dict(), config={"kind": "trained", "vocabulary": VOCABULARY, "hidden": 4}
    )
    return measure_usage(made, images)


@pytest.mark.parametrize("favoured", [1, 2])
def test_a_collapsed_tokenizer_is_detected(site, tmp_path, favoured):
    """Its last layer knows one or two ids, whatever it sees."""
    torch.manual_seed(0)
    network = DiscreteVae(vocabulary=VOCABULARY, hidden=4)
    with torch.no_grad():
        list(network.encoder.parameters())[-1][favoured:] -= 1e4
    found = signs_of_collapse(tokenizer_of(network, tmp_path / "tokenizer", site.read(0)).config())
    assert "the perplexity of its ids is" in found[0]
    if favoured == 1:
        assert found[1] == "one id has 100.0% of the inked patches, more than 98%"


def test_an_ordinary_tokenizer_passes(site, tmp_path):
    recipe = TokenizerRecipe(vocabulary=128, hidden=8, steps=60, batch=8)
    ecg_ids = frozenset(site.index()["ecg_id"])
    made = train_tokenizer(recipe, images={"a": site}, ecg_ids=ecg_ids, out=tmp_path / "tokenizer")
    assert signs_of_collapse(made.config()) == []


def test_blank_paper_alone_says_nothing_of_a_tokenizer(tmp_path):
    made = tokenizer_of(
        DiscreteVae(vocabulary=VOCABULARY, hidden=4), tmp_path / "tokenizer", np.full((2, 224, 224), 255, np.uint8)
    )
    assert signs_of_collapse(made.config()) == ["no patch of the measured images is inked"]
