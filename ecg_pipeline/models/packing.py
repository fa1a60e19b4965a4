"""Texts of different lengths as rows of words, so that layers that treat each token by itself compute no padding."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Packing:
    """Where the P words of padded texts are.

    is_word: (B, M) bool. places: (P,) int64, of the words in the flattened texts.
    """

    is_word: Tensor
    places: Tensor


def packing(is_word: Tensor) -> Packing:
    """The packing of texts of which (B, M) `is_word` tells words from padding."""
    return Packing(is_word, is_word.flatten().nonzero()[:, 0])


def packed(x: Tensor, by: Packing | None) -> Tensor:
    """(B, M, D) -> (P, D). Without a packing there is no padding, and x stays as it is."""
    return x if by is None else x.flatten(0, 1).index_select(0, by.places)


def padded(x: Tensor, by: Packing | None) -> Tensor:
    """(P, D) -> (B, M, D), 0 where there is padding. Without a packing x stays as it is."""
    if by is None:
        return x
    rows = x.new_zeros(by.is_word.numel(), x.shape[1]).index_copy(0, by.places, x)
    return rows.unflatten(0, by.is_word.shape)
