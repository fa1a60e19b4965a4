"""The Jinja environment of the pages: everything is escaped, and an undefined name is an error."""

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def environment() -> Environment:
    """Templates of `templates/`, with the filters that print numbers."""
    made = Environment(
        loader=PackageLoader("ecg_pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_typeset,
    )
    made.filters |= {
        "count": _count,
        "decimal": _decimal,
        "percent": _percent,
        "p_value": _p_value,
        "scientific": _scientific,
        "threshold": _threshold,
        "whole": _whole,
    }
    return made


def _count(value: float) -> str:
    """A number of things, whole unless it is a mean."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _decimal(value: float | None, digits: int = 2) -> str:
    """A number, or a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def _percent(share: float, digits: int | None = None) -> str:
    """A share in per cent, by default with as many digits as it has."""
    return f"{100 * share:g} %" if digits is None else f"{100 * share:.{digits}f} %"


def _threshold(score: float | None) -> str:
    """A score with enough digits to differ from 0."""
    return _decimal(score, 3) if score is None or score >= 0.001 else f"{score:.1g}"


def _whole(value: float | None) -> str:
    """A number without digits after the point, or a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def _scientific(value: float | None) -> str:
    """A large number with two digits, or a dash where there is none."""
    return "–" if value is None else f"{value:.1e}".replace("e+", "e")


def _p_value(p: float | None) -> str:
    return "< 0.001" if p is not None and p < 0.001 else _decimal(p, 3)


def _typeset(value: Any) -> Any:
    """A value as it is printed: no line breaks between a number and its percent sign. Markup is not changed."""
    return value.replace(" %", "\u00a0%") if type(value) is str else value
