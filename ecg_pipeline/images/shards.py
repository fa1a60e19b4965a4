"""A site's sheets, part by part as the waveforms they are drawn from."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecg_pipeline.ecg import INDEPENDENT_LEADS, Progress, no_progress
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.storage.parallel import run_parallel
from ecg_pipeline.storage.shards import ArrayParts, PartsWriter

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class ImageShards(ArrayParts):
    """A site's sheets: (n, H, W) uint8 a part, 255 = white paper, 0 = full ink."""


def render_site(
    filtered: FilteredWaveforms,
    recipe: SheetRecipe,
    out: Path,
    workers: int = 1,
    progress: Progress = no_progress,
    before: Path | None = None,
) -> ImageShards:
    """Draw every record of a site, part by part, into `out`. Parts that stand there are kept, and those of `before`,
    an earlier output of the same recipe, are taken over where the filtered waveforms are the same.
    """
    parts = filtered.parts()
    work = partial(_render_part, filtered=filtered, recipe=recipe, out=out, before=before)
    run_parallel(work, parts, workers, progress)
    PartsWriter(out).finish(filtered.scan())
    return ImageShards(out)


def _render_part(part: int, filtered: FilteredWaveforms, recipe: SheetRecipe, out: Path, before: Path | None) -> None:
    """Write one part unless it stands."""
    from ecg_pipeline.images.render import render_many

    writer = PartsWriter(out, before)
    if not writer.stands(part, filtered.digest(part)):
        attributes = {"leads": list(INDEPENDENT_LEADS), "paper": 255, "ink": 0}
        writer.write(part, render_many(filtered.read(part), recipe), attributes)
