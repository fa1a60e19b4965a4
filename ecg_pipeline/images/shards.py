"""The images of a site, in the same shards as its waveforms."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecg_pipeline.ecg import INDEPENDENT_LEADS, Progress, no_progress
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.storage.shards import ArrayShards, Shard, build_shards, write_index

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class ImageShards(ArrayShards):
    """A site's images: (n, H, W) uint8 per shard, 255 = white paper, 0 = full ink."""


def render_site(
    filtered: FilteredWaveforms,
    recipe: SheetRecipe,
    out: Path,
    *,
    workers: int = 1,
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> ImageShards:
    """Render every ECG of a site, shard by shard, into `out`.

    Shards that exist for the same waveforms are not rendered again; they may come from `previous`, an earlier output of
    the same recipe.
    """
    work = partial(_render_shard, filtered, recipe)
    build_shards(
        filtered,
        out=out,
        work=work,
        input_digest=filtered.digest,
        previous=previous,
        workers=workers,
        progress=progress,
    )
    write_index(out, filtered.scan())
    return ImageShards(out)


def _render_shard(filtered: FilteredWaveforms, recipe: SheetRecipe, shard: int) -> Shard:
    from ecg_pipeline.images.render import render_many

    attributes = {"leads": list(INDEPENDENT_LEADS), "paper": 255, "ink": 0}
    return Shard(render_many(filtered.read(shard), recipe), attributes)
