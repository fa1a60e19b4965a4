"""Natural images to compare ECGs with: grey tiles of the photographs in a folder, or of three that dependencies ship.

The folder's files are not trusted. Each is opened by the decoder of its suffix only, its size is checked before it is
decoded, and a file that cannot be used is skipped and reported.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ecg_pipeline.storage.files import digest_json

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
SIDE_PX = 224
STRIDE_PX = 100
MAX_PIXELS = 50_000_000
"""Largest size of an image, that of a camera. More pixels in a small file may be a decompression bomb."""


@dataclass(frozen=True, eq=False)
class NaturalImages:
    """Tiles of photographs: (n, 224, 224) uint8, the number of files they are from, and the reasons for skipped files.

    skipped: reason by file name. source: where the files are from, in words.
    """

    tiles: NDArray[np.uint8]
    files_used: int
    skipped: dict[str, str]
    source: str


def natural_images(folder: Path | None, *, limit: int, seed: int) -> NaturalImages:
    """At most `limit` tiles at random positions, spread evenly over as many files as possible.

    folder: None uses three photographs that scikit-learn and matplotlib ship, which are no representative sample. Fewer
    than two tiles are a ValueError.
    """
    paths = _shipped() if folder is None else _files(folder)
    rng = np.random.default_rng(seed)
    tiles, used, skipped = [], 0, {}
    for done, place in enumerate(rng.permutation(len(paths))):
        # The tiles still missing are divided among the files that remain.
        wanted = ceil((limit - len(tiles)) / (len(paths) - done))
        if wanted <= 0:
            break
        path = paths[place]
        try:
            corners = _corners(grey := read_grey(path, folder))
        except UnusableImage as error:
            skipped[path.name if folder is None else path.relative_to(folder).as_posix()] = str(error)
            continue
        sampled = rng.permutation(len(corners))[:wanted]
        tiles += [grey[top : top + SIDE_PX, left : left + SIDE_PX] for top, left in (corners[i] for i in sampled)]
        used += 1
    if len(tiles) < 2:
        raise ValueError(
            f"{folder}: {len(tiles)} usable tiles of {SIDE_PX} px in {len(paths)} image files; at least two are needed"
        )
    source = "the photographs that scikit-learn and matplotlib ship" if folder is None else f"the folder {folder.name}"
    return NaturalImages(np.stack(tiles), used, dict(sorted(skipped.items())), source)


class UnusableImage(ValueError):  # noqa: N818
    """An image file that no tile can be cut from; the message is the reason."""


def read_grey(path: Path, folder: Path | None = None) -> NDArray[np.uint8]:
    """Read an image file as grey levels (H, W). Damaged, too large, too small or outside `folder`: UnusableImage."""
    if folder is not None and not path.resolve().is_relative_to(folder.resolve()):
        raise UnusableImage("a link that leaves the folder")
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(path, formats=[FORMATS[path.suffix.lower()]]) as image,
        ):
            if image.width * image.height > MAX_PIXELS:
                raise UnusableImage(f"more than {MAX_PIXELS} pixels")
            if min(image.size) < SIDE_PX:
                raise UnusableImage(f"smaller than {SIDE_PX} px")
            return np.asarray(image.convert("L"))
    except Image.DecompressionBombError:
        raise UnusableImage(f"more than {MAX_PIXELS} pixels") from None
    except (OSError, EOFError, SyntaxError) as error:
        raise UnusableImage(f"not a whole image ({type(error).__name__})") from None


def folder_version(folder: Path) -> str:
    """Version of a folder's images: a digest of the name, size and modification time of each."""
    states = [(path.relative_to(folder).as_posix(), path.lstat()) for path in _files(folder)]
    return digest_json([[name, state.st_size, state.st_mtime_ns] for name, state in states])


def _corners(grey: NDArray[np.uint8]) -> Sequence[tuple[int, int]]:
    """Upper left corners of the tiles of an image."""
    rows, columns = (range(0, side - SIDE_PX + 1, STRIDE_PX) for side in grey.shape)
    return [(top, left) for top in rows for left in columns]


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder of natural images")
    # `rglob` does not follow links to folders.
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in FORMATS and not path.is_dir())


def _shipped() -> list[Path]:
    from importlib.resources import files

    from matplotlib import get_data_path

    photographs = [Path(str(files("sklearn.datasets") / "images" / name)) for name in ("china.jpg", "flower.jpg")]
    return [*photographs, Path(get_data_path()) / "sample_data" / "grace_hopper.jpg"]
