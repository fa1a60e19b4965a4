"""The saliency section of a page: shares of the maps by window, and pictures."""

import base64
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from ecg_pipeline.explanation.results import DERIVED_LEADS, LATER_SECONDS, REST, SHEET, WINDOW, Saliency

REGIONS = {
    "qrs": "QRS complexes",
    "st": "ST segments",
    "t": "T waves",
    REST: "All else",
    DERIVED_LEADS: "Leads that a sheet lacks",
    LATER_SECONDS: "Its leads, after its end",
}
"""In the order of the table. The first four are all of a map; the last two are what a sheet does not show of it."""


@dataclass(frozen=True)
class RegionShare:
    """Shares of a model's maps, of their area and of the sheet's ink that lie in one region.

    ink_share: None for a model that reads waveforms.
    """

    model: str
    region: str
    share: float
    area_share: float
    ink_share: float | None


@dataclass(frozen=True)
class ErrorPicture:
    """A model's most confident errors of a kind. kind: in words, for so many ECGs. picture: base64 of PNG."""

    model: str
    kind: str
    ecgs: int
    picture: str


@dataclass(frozen=True)
class SaliencySection:
    """The table and the pictures.

    ecgs: number of ECGs that the shares are of, 0 where no test ECG is positive. pictures: base64 of PNG, of each of
    these ECGs. errors: pictures of a model's errors of a kind, with their number. left_out: number of pictures that
    this page does not show. explained, not_explained, without_threshold: names of models.
    """

    shares: list[RegionShare]
    ecgs: int
    pictures: list[str]
    errors: list[ErrorPicture]
    left_out: int
    explained: list[str]
    not_explained: list[str]
    without_threshold: list[str]


def saliency_section(saliency: Saliency, *, with_pictures: bool = True) -> SaliencySection:
    """The section of one task. Models without a finite share, because no wave was found, are left out."""
    means = pl.concat([saliency.summary(kind) for kind in (WINDOW, SHEET)]).fill_nan(None).drop_nulls("share")
    rows = {(row["model"], row["region"]): row for row in means.iter_rows(named=True)}
    shares = [
        RegionShare(row["model"], REGIONS[region], row["share"], row["area_share"], row["ink_share"])
        for model in saliency.explained()
        for region in REGIONS
        if (row := rows.get((model, region)))
    ]
    figures = saliency.figures()
    counts = {(model, kind): count for model, kind, count in saliency.errors().group_by("model", "kind").len().rows()}
    errors = [
        ErrorPicture(model, _in_words(kind, counts[model, kind]), counts[model, kind], _base64(path))
        for (model, kind), path in saliency.error_figures().items()
        if with_pictures
    ]
    return SaliencySection(
        shares,
        ecgs=len(figures),
        pictures=[_base64(path) for path in figures] if with_pictures else [],
        errors=errors,
        left_out=0 if with_pictures else len(saliency.pictures()),
        explained=saliency.explained(),
        not_explained=saliency.not_explained(),
        without_threshold=saliency.without_threshold(),
    )


def _in_words(kind: str, count: int) -> str:
    return kind.replace("_", " ") + ("s" if count > 1 else "")


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
