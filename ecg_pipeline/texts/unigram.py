"""Training of a Unigram vocabulary (Kudo 2018, Subword Regularization), with the same result on every run.

The trainer of the package `tokenizers`, which encodes with the vocabulary, sums in the order of a hash table that
differs between runs, and so do its scores. This one goes through sorted words and pieces in double precision.

A piece of a word has a probability of its own, and a word is cut in all possible ways. Expectation maximisation fits
the probabilities to how often words occur, and after each round the pieces that explain least are dropped.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from math import exp, log

BLANK = "▁"
"""Stands for the blank before a word, at the beginning of its first piece."""

LONGEST_PIECE = 16
"""Characters of a piece, at most."""

LONGEST_WORD = 64
"""A longer word is trained on in parts of so many characters."""

SEEDS = 100_000
"""Largest number of pieces to begin with, by how many characters of all words they cover."""

ROUNDS = 2
"""Rounds of expectation maximisation between two prunings."""

KEPT = 0.75
"""Share of the pieces that survive a pruning."""

SPARE = 1.1
"""The last rounds have so many times the pieces that are wanted."""

RARE = 0.5
"""A piece that is expected to occur less often is dropped."""

PER_CHARACTER = 5.0
"""Added to each log-probability for each character while words are summed over, so that long words do not vanish: all
ways to cut a word have the same number of characters."""

Edges = list[tuple[int, int, int]]
"""The pieces in a word: first character, end, and the number of the piece."""


def train_unigram(texts: Iterable[str], *, vocabulary: int) -> list[tuple[str, float]]:
    """Pieces of the words of some texts, and their log-probabilities, the likeliest first.

    vocabulary: number of pieces, at most; all characters that occur are pieces, even if they are more. Words are what
    blanks separate. Texts without any word give no pieces.
    """
    words = _words(texts)
    pieces = _seeds(words)
    while True:
        for _ in range(ROUNDS):
            pieces = _maximised(_expected(words, pieces), pieces)
        characters = sum(len(piece) == 1 for piece in pieces)
        wanted = max(characters, int(SPARE * vocabulary))
        if len(pieces) <= wanted:
            break
        pieces = _pruned(words, pieces, keep=max(wanted, int(KEPT * len(pieces))))
    ranked = sorted(pieces.items(), key=lambda item: (len(item[0]) > 1, -item[1], item[0]))
    return sorted(ranked[: max(characters, vocabulary)], key=lambda item: (-item[1], item[0]))


def _words(texts: Iterable[str]) -> dict[str, int]:
    """How often each word occurs, with `BLANK` before it, sorted."""
    counts = Counter(word for text in texts for word in text.split())
    found = Counter[str]()
    for word, count in counts.items():
        marked = BLANK + word
        for start in range(0, len(marked), LONGEST_WORD):
            found[marked[start : start + LONGEST_WORD]] += count
    return dict(sorted(found.items()))


def _seeds(words: Mapping[str, int]) -> dict[str, float]:
    """Every character, and the commonest of what occurs at least twice, with log-probabilities.

    What occurs only as a part of the same longer piece is none.
    """
    counts = Counter[str]()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1):
                counts[word[start:end]] += count
    inner = {part for piece in counts for part in (piece[1:], piece[:-1]) if counts.get(part) == counts[piece]}
    covered = {
        piece: count * len(piece)
        for piece, count in counts.items()
        if len(piece) == 1 or (count > 1 and piece not in inner)
    }
    ranked = sorted(covered, key=lambda piece: (len(piece) > 1, -covered[piece], piece))[:SEEDS]
    total = log(sum(covered[piece] for piece in ranked)) if ranked else 0.0
    return {piece: log(covered[piece]) - total for piece in sorted(ranked)}


def _expected(words: Mapping[str, int], pieces: Mapping[str, float]) -> dict[str, float]:
    """How often each piece is expected in the words, over all ways to cut them."""
    names, weights = list(pieces), [exp(score + PER_CHARACTER * len(piece)) for piece, score in pieces.items()]
    expected = [0.0] * len(names)
    for word, count, edges in _lattices(words, names):
        size = len(word)
        before, after = [1.0] + [0.0] * size, [0.0] * size + [1.0]
        for start, end, piece in edges:
            before[end] += before[start] * weights[piece]
        for start, end, piece in reversed(edges):
            after[start] += after[end] * weights[piece]
        share = count / before[size]
        for start, end, piece in edges:
            expected[piece] += before[start] * weights[piece] * after[end] * share
    return dict(zip(names, expected, strict=True))


def _maximised(expected: Mapping[str, float], pieces: Mapping[str, float]) -> dict[str, float]:
    """The log-probabilities that expected counts give, with a prior that favours few pieces; rare pieces are dropped.

    A character stays, at the least probability that there is.
    """
    from scipy.special import digamma

    kept = {piece: count for piece, count in expected.items() if count >= RARE}
    if not kept:
        return dict(pieces)
    total = float(digamma(sum(kept.values())))
    scores = {piece: float(digamma(count)) - total for piece, count in kept.items()}
    least = min(scores.values())
    return {piece: scores.get(piece, least) for piece in pieces if piece in scores or len(piece) == 1}


def _pruned(words: Mapping[str, int], pieces: Mapping[str, float], *, keep: int) -> dict[str, float]:
    """The `keep` pieces without which the words would lose most likelihood, and every character.

    The likelihood is that of the likeliest way to cut each word; without a piece, its own likeliest cut replaces it.
    """
    names, scores = list(pieces), list(pieces.values())
    counts = [0] * len(names)
    for word, count, edges in _lattices(words, names):
        for piece in _best_cut(len(word), edges, scores):
            counts[piece] += count
    total = sum(counts)
    losses = {}
    for number, (piece, _, edges) in enumerate(_lattices(dict.fromkeys(names, 1), names)):
        if len(piece) == 1:
            losses[piece] = float("inf")
            continue
        if not counts[number]:
            losses[piece] = 0.0
            continue
        cut = _best_cut(len(piece), [edge for edge in edges if edge[2] != number], scores)
        alone = log(counts[number]) - log(total)
        grown = log(total + counts[number] * (len(cut) - 1))
        replaced = sum(log(counts[part] + counts[number]) - grown for part in cut)
        losses[piece] = counts[number] / total * (alone - replaced)
    ranked = sorted(names, key=lambda piece: (-losses[piece], piece))
    kept = {*ranked[:keep], *(piece for piece in names if len(piece) == 1)}
    return {piece: score for piece, score in pieces.items() if piece in kept}


def _best_cut(size: int, edges: Edges, scores: list[float]) -> list[int]:
    """The pieces of the likeliest way to cut a word of `size` characters."""
    best: list[tuple[float, int, int]] = [(0.0, 0, 0)] + [(float("-inf"), 0, 0)] * size
    for start, end, piece in edges:
        score = best[start][0] + scores[piece]
        if score > best[end][0]:
            best[end] = score, start, piece
    found, at = [], size
    while at:
        found.append(best[at][2])
        at = best[at][1]
    return found


def _lattices(words: Mapping[str, int], names: list[str]) -> Iterator[tuple[str, int, Edges]]:
    """Each word with its count and the pieces in it, by where they begin and, from there, by their length."""
    numbers = {name: number for number, name in enumerate(names)}
    for word, count in words.items():
        edges = [
            (start, end, number)
            for start in range(len(word))
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1)
            if (number := numbers.get(word[start:end])) is not None
        ]
        yield word, count, edges
