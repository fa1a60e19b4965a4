"""The paper's distance between images: Wasserstein-1 between their pixel values, in grey levels.

For two images of 256 grey levels it is the area between their cumulative histograms, exactly, so a million pairs are
one city-block distance matrix. (The paper: 2.14 among ECGs, 45.48 among natural images, 128.44 between them.)
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
        """Mean over pairs of ECG and ECG, natural and natural, ECG and natural; and the numbers of images.

        natural_source: what was cut into how many tiles. natural_skipped: reason by name of file.
        """
        return read_json(self.folder / "distances.json")


def cumulative_histograms(images: NDArray[np.uint8]) -> NDArray[np.integer]:
    """(N, H, W) uint8 -> (N, 256): number of pixels at or below each grey level."""
    return np.stack([np.bincount(image.reshape(-1), minlength=256) for image in images]).cumsum(axis=1)


def pairwise(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.floating]:
    """(N, H, W) and (M, H, W) uint8 -> (N, M) Wasserstein-1 distances in grey levels. Sums of whole numbers: exact."""
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"images of {a.shape[1:]} and of {b.shape[1:]} pixels have no distance here")
    from scipy.spatial.distance import cdist

    return cdist(cumulative_histograms(a), cumulative_histograms(b), "cityblock") / a[0].size


def mean_distance_within(images: NDArray[np.uint8]) -> float:
    """Mean over pairs of two different images (an image has distance 0 to itself, which says nothing). N >= 2."""
    return float(pairwise(images, images).sum() / (len(images) * (len(images) - 1)))


def measure_distances(
    sites: Mapping[str, ImageShards], recipe: DistanceRecipe, out: Path, natural: Path | None = None
) -> ImageDistance:
    """Draw ECG sheets over all sites, and measure the three mean distances into `out`.

    natural: folder of natural images; None takes those that dependencies ship.
    """
    photographs = natural_images(natural, recipe.images, recipe.seed)
    ecgs = _draw(sites, recipe)
    write_json(
        out / "distances.json",
        {
            "ecg_ecg": mean_distance_within(ecgs),
            "natural_natural": mean_distance_within(photographs.tiles),
            "ecg_natural": float(pairwise(ecgs, photographs.tiles).mean()),
            "ecg_images": len(ecgs),
            "natural_images": len(photographs.tiles),
            "natural_source": f"grey tiles of {photographs.photographs} files, from {photographs.source}",
            "natural_skipped": photographs.skipped,
        },
    )
    return ImageDistance(out)


def _draw(sites: Mapping[str, ImageShards], recipe: DistanceRecipe) -> NDArray[np.uint8]:
    known = [(site, record) for site, shards in sorted(sites.items()) for record in shards.index()["record"]]
    order = np.random.default_rng(recipe.seed).permutation(len(known))[: recipe.images]
    chosen = [known[place] for place in order]
    by_site = {site: [record for where, record in chosen if where == site] for site in sites}
    return np.concatenate([sites[site].read_records(records) for site, records in by_site.items() if records])
