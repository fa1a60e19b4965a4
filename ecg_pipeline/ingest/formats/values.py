"""Numbers and times as files write them; None for a text that is none."""

from datetime import datetime
from math import isfinite


def to_float(text: str | None) -> float | None:
    """A finite number."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def to_time(text: str | None, form: str) -> datetime | None:
    """A time in a form of `strptime`."""
    try:
        return datetime.strptime(text or "", form)
    except ValueError:
        return None
