"""The paper's distance between images: Wasserstein-1 between their distributions of grey levels.

It equals the area between the two cumulative histograms, so the distances of a million pairs are one city-block
distance matrix. (The paper: 2.14 among ECGs, 45.48 among natural images, 128.44 between them.)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.images.natural import natural_images
from ecg_pipeline.images.recipes import DistanceRecipe
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.files import read_json, write_json

REVISION = 3
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class ImageDistance:
    """Mean distances. File: `distances.json`."""

    folder: Path

    def distances(self) -> dict[str, Any]:
        """Means over pairs (`ecg_ecg`, `natural_natural`, `ecg_natural`), in grey levels, and numbers of images.

        natural_source: where the natural images come from. natural_skipped: reason by file name.
        """
        return read_json(self.folder / "distances.json")


def cumulative_histograms(images: NDArray[np.uint8]) -> NDArray[np.integer]:
    """Number of pixels at or below each grey level: (N, H, W) uint8 -> (N, 256)."""
    return np.stack([np.bincount(image.reshape(-1), minlength=256) for image in images]).cumsum(axis=1)


def pairwise(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.floating]:
    """Wasserstein-1 distances in grey levels: (N, H, W) and (M, H, W) uint8 -> (N, M).

    Sums of integers, divided once by the number of pixels. Images of different sizes are a ValueError.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"images must have equal sizes, not {a.shape[1:]} and {b.shape[1:]} pixels")
    from scipy.spatial.distance import cdist

    return cdist(cumulative_histograms(a), cumulative_histograms(b), "cityblock") / a[0].size


def mean_distance_within(images: NDArray[np.uint8]) -> float:
    """Mean distance over pairs of two different images: (N, H, W) uint8, N >= 2."""
    return float(pairwise(images, images).sum() / (len(images) * (len(images) - 1)))


def measure_distances(
    images: Mapping[str, ImageShards], recipe: DistanceRecipe, *, out: Path, natural: Path | None = None
) -> ImageDistance:
    """Measure the three mean distances on a sample of ECG images, and write them to `out`.

    images: by site. natural: folder of natural images; None uses photographs that dependencies ship.
    """
    photos = natural_images(natural, limit=recipe.images, seed=recipe.seed)
    ecgs = _sample(images, recipe)
    write_json(
        out / "distances.json",
        {
            "ecg_ecg": mean_distance_within(ecgs),
            "natural_natural": mean_distance_within(photos.tiles),
            "ecg_natural": float(pairwise(ecgs, photos.tiles).mean()),
            "ecg_images": len(ecgs),
            "natural_images": len(photos.tiles),
            "natural_source": f"grey tiles of {photos.files_used} files, from {photos.source}",
            "natural_skipped": photos.skipped,
        },
    )
    return ImageDistance(out)


def _sample(images: Mapping[str, ImageShards], recipe: DistanceRecipe) -> NDArray[np.uint8]:
    """At most `recipe.images` ECG images over all sites, sampled without replacement: (n, H, W)."""
    known = [(site, ecg_id) for site, shards in sorted(images.items()) for ecg_id in shards.index()["ecg_id"]]
    order = np.random.default_rng(recipe.seed).permutation(len(known))[: recipe.images]
    chosen = [known[place] for place in order]
    by_site = {site: [ecg_id for where, ecg_id in chosen if where == site] for site in images}
    return np.concatenate([images[site].read_ecgs(ecg_ids) for site, ecg_ids in by_site.items() if ecg_ids])
