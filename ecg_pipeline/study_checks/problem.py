"""The result type of the study checks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """A problem of a study. keys: dotted keys where it can be fixed, the most likely first."""

    sentence: str
    keys: tuple[str, ...]


def problem(sentence: str, *keys: str) -> Problem:
    """Make a Problem from a sentence and its keys."""
    return Problem(sentence, keys)
