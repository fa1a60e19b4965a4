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
    """All T training texts, each with the least similar ones. A text's id is its row in each array.

    tokens (T, M), padded; lengths (T,). negatives (T, K): ids of the least similar texts, and -1 after them where there
    are fewer than K.
    """

    tokens: NDArray[np.int64]
    lengths: NDArray[np.int64]
    negatives: NDArray[np.int64]


def replace_texts(
    texts: Texts, negatives: NegativeTexts, *, share: float, rng: np.random.Generator
) -> tuple[Texts, NDArray[np.bool_]]:
    """Replace a share of the texts of a group by one of their least similar texts, each at random.

    Of B texts, share * B are replaced, rounded at random; one that has no negatives stays. Returns the texts, and which
    are those of their ECG, (B,) bool.
    """
    count = len(texts.ids)
    chosen = rng.permutation(count)[: int(share * count + rng.random())]
    uniform = rng.random(count)
    available = (negatives.negatives >= 0).sum(axis=1)[texts.ids] * (texts.ids >= 0)
    replaced = np.zeros(count, bool)
    replaced[chosen] = available[chosen] > 0
    new = negatives.negatives[texts.ids, (uniform * available).astype(int)]
    width = max(texts.tokens.shape[1], negatives.tokens.shape[1])
    own, other = _widened(texts.tokens, width), _widened(negatives.tokens[new], width)
    shown = Texts(
        ids=np.where(replaced, new, texts.ids),
        tokens=np.where(replaced[:, None], other, own),
        lengths=np.where(replaced, negatives.lengths[new], texts.lengths),
    )
    return shown, ~replaced


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
