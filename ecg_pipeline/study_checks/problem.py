"""What a check of a study finds."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Something that a study cannot be. keys: dotted, where it can be put right, the likeliest place first."""

    sentence: str
    keys: tuple[str, ...]


def problem(sentence: str, *keys: str) -> Problem:
    """A problem with the keys named one by one."""
    return Problem(sentence, keys)
