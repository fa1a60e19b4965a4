"""Parse numbers and times of a file; None if the text is missing or malformed."""

from datetime import datetime
from math import isfinite


def to_float(text: str | None) -> float | None:
    """A finite number, or None."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def years_between(birth: datetime | None, day: datetime | None) -> float | None:
    """Age in whole years; None if one of the two is unknown."""
    if birth is None or day is None:
        return None
    return float(day.year - birth.year - ((day.month, day.day) < (birth.month, birth.day)))


def to_time(text: str | None, form: str) -> datetime | None:
    """A time in a format of `strptime`, or None."""
    try:
        return datetime.strptime(text or "", form)
    except ValueError:
        return None
