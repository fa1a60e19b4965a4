"""What is random in D-BETA's pretraining: replaced texts, masked tokens of texts, removed tokens of ECGs, lost leads.

Functions that decide by numbers between 0 and 1 are given these, so that what they decide can be compared.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOT_PREDICTED = -100
"""Label of a token that is not to be predicted."""

SHOWN_AS_MASK, SHOWN_AT_RANDOM = 0.8, 0.1
"""Shares of the tokens to be predicted that are shown as the mask token, and as a random one (Devlin et al. 2019)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Words:
    """The numbers of a tokenizer.

    vocabulary: how many tokens it has. pad, mask: ids. special: ids of tokens that are never to be predicted, such as
    padding and the end of a text.
    """

    vocabulary: int
    pad: int
    mask: int
    special: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Texts:
    """Some texts, one a row. ids (n,): equal ids are equal texts. tokens (n, M), padded; lengths (n,)."""

    ids: NDArray[np.int64]
    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @property
    def is_word(self) -> NDArray[np.bool_]:
        """Where tokens are no padding, (n, M)."""
        return np.arange(self.tokens.shape[1]) < self.lengths[:, None]


@dataclass(frozen=True, kw_only=True, eq=False)
class NegativeTexts:
    """The least similar texts of every training text.

    texts: the distinct ones, with ascending ids. negatives (n, K): places in `texts` of the K least similar ones.
    """

    texts: Texts
    negatives: NDArray[np.int64]


def replace_texts(
    texts: Texts, negatives: NegativeTexts, *, share: float, rng: np.random.Generator
) -> tuple[Texts, NDArray[np.bool_]]:
    """Replace a share of the texts of a group by one of their least similar texts, each at random.

    Of B texts, share * B are replaced, rounded at random. A text that is not among those of `negatives`, or none of
    whose negatives differs from it, stays. Returns the texts, and which are those of their ECG, (B,) bool.
    """
    count = len(texts.ids)
    chosen = rng.permutation(count)[: int(share * count + rng.random())]
    which = rng.integers(0, max(1, negatives.negatives.shape[1]), count)
    known = negatives.texts.ids
    at = np.searchsorted(known, texts.ids).clip(max=max(0, len(known) - 1))
    is_aligned = np.ones(count, bool)
    if not negatives.negatives.size:
        return texts, is_aligned
    new = negatives.negatives[at, which]
    is_aligned[chosen] = ~((known[at] == texts.ids) & (known[new] != texts.ids))[chosen]
    width = max(texts.tokens.shape[1], negatives.texts.tokens.shape[1])
    return (
        Texts(
            ids=np.where(is_aligned, texts.ids, known[new]),
            tokens=np.where(
                is_aligned[:, None], _widened(texts.tokens, width), _widened(negatives.texts.tokens[new], width)
            ),
            lengths=np.where(is_aligned, texts.lengths, negatives.texts.lengths[new]),
        ),
        is_aligned,
    )


def mask_words(
    texts: Texts, words: Words, *, probability: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Tokens as they are shown, and labels: the tokens to be predicted, elsewhere `NOT_PREDICTED`. Both (n, M)."""
    draws = rng.random((2, *texts.tokens.shape))
    anything = rng.integers(0, words.vocabulary, texts.tokens.shape)
    may_be = texts.is_word & ~np.isin(texts.tokens, words.special)
    is_masked = may_be & (draws[0] < probability)
    shown = np.where(is_masked & (draws[1] < SHOWN_AS_MASK), words.mask, texts.tokens)
    is_random = is_masked & (draws[1] >= SHOWN_AS_MASK) & (draws[1] < SHOWN_AS_MASK + SHOWN_AT_RANDOM)
    return np.where(is_random, anything, shown), np.where(is_masked, texts.tokens, NOT_PREDICTED)


def order_tokens(uniform: NDArray) -> NDArray[np.int64]:
    """Random order of the tokens of each ECG, of which the first are kept: that of its numbers. (B, N) -> (B, N)."""
    return uniform.argsort(axis=1, kind="stable")


def leads_kept(uniform: NDArray, probability: float) -> NDArray[np.bool_]:
    """Which leads are not set to 0, by a number of each, of any shape."""
    return uniform >= probability


def _widened(tokens: NDArray, width: int) -> NDArray:
    return np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])))
