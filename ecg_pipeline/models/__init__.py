"""The model families, by the name that a study file gives: the one table to add a family to.

Families of other packages are found by their entry points in the group `ecg_pipeline.families`.
"""

from importlib.metadata import entry_points

from ecg_pipeline.models import comparators, d_beta, ecg_fm, ecgfounder, heartbeit, small_cnn
from ecg_pipeline.models.family import Family

GROUP = "ecg_pipeline.families"


def _installed(built_in: dict[str, Family]) -> dict[str, Family]:
    """The families of other packages. A name that is taken, or an object that is no family, is a TypeError."""
    found: dict[str, Family] = {}
    for point in entry_points(group=GROUP):
        family = point.load()
        where = f"the entry point {point.name} = {point.value} in {GROUP}"
        if not isinstance(family, Family):
            raise TypeError(f"{where} is a {type(family).__name__}, not a Family")
        if point.name in {**built_in, **found}:
            raise TypeError(f"{where}: another family has this name")
        found[point.name] = family
    return found


FAMILIES: dict[str, Family] = {
    "heartbeit": heartbeit.FAMILY,
    "timm": comparators.FAMILY,
    "small_cnn": small_cnn.FAMILY,
    "ecg_fm": ecg_fm.FAMILY,
    "ecgfounder": ecgfounder.FAMILY,
    "d_beta": d_beta.FAMILY,
}
FAMILIES |= _installed(FAMILIES)
