"""Keeping people out of texts: the identities of their own files, and at private sites what few patients share."""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence

SHARED_BY = 5
"""Patients of a site who must share a word for it to be kept."""

SHORTEST_NAME = 2
"""Characters of what counts as a name: an initial may be the T of a T wave."""

_WORD = re.compile(r"[^\W_]+")


def without_identities(text: str, identities: Collection[str]) -> str:
    """A cleaned text without the words of the record's own identities."""
    names = {word for one in identities for word in _WORD.findall(one.lower()) if len(word) >= SHORTEST_NAME}
    return _struck(text, lambda word: word in names)


def without_rare_words(texts: Sequence[str], patients: Sequence[str | None]) -> list[str]:
    """A site's texts without every word that fewer than `SHARED_BY` of its patients share.

    A text without a known patient says nothing of how many share its words. Numbers are words.
    """
    shared = _patients_by_word(texts, patients)
    return [_struck(text, lambda word: shared.get(word, 0) < SHARED_BY) for text in texts]


def _patients_by_word(texts: Sequence[str], patients: Sequence[str | None]) -> Mapping[str, int]:
    """How many patients have each word."""
    by_patient = defaultdict[str, set[str]](set)
    for text, patient in zip(texts, patients, strict=True):
        if patient is not None:
            by_patient[patient].update(_WORD.findall(text))
    counts = defaultdict[str, int](int)
    for words in by_patient.values():
        for word in words:
            counts[word] += 1
    return counts


def _struck(text: str, is_struck: Callable[[str], bool]) -> str:
    """A text without some words, and without the blanks and punctuation that this leaves."""
    kept = (_WORD.sub(lambda found: "" if is_struck(found[0]) else found[0], part) for part in text.split())
    return " ".join(part for part, whole in zip(kept, text.split(), strict=True) if _WORD.search(part) or part == whole)
