"""Natural images are whole grey tiles, and files that are not what they say do no harm."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from ecg_pipeline.images.natural import folder_version, natural_images


def photograph(path, seed=0, size=(300, 260)):
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), np.uint8)).save(path)


def png_that_says(width, height):
    """A PNG of a few bytes that claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    packed = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_the_shipped_photographs_are_cut_into_whole_tiles():
    found = natural_images(None, limit=10, seed=0)
    assert found.tiles.shape == (10, 224, 224)
    assert found.tiles.std() > 20
    assert (found.files_used, found.skipped) == (3, {})
    np.testing.assert_array_equal(found.tiles, natural_images(None, limit=10, seed=0).tiles)
    assert 30 < len(natural_images(None, limit=1000, seed=0).tiles) < 1000


def test_every_file_of_a_folder_is_used(tmp_path):
    (tmp_path / "deeper").mkdir()
    for number in range(4):
        photograph(tmp_path / "deeper" / f"{number}.png", seed=number, size=(500, 400))
    found = natural_images(tmp_path, limit=8, seed=1)
    assert (len(found.tiles), found.files_used) == (8, 4)
    assert len(natural_images(tmp_path, limit=3, seed=1).tiles) == 3
    with Image.open(tmp_path / "deeper" / "0.png") as image:
        grey = np.asarray(image.convert("L"))
    tiles = natural_images(tmp_path, limit=1000, seed=1).tiles
    assert any(np.array_equal(tile, grey[:224, :224]) for tile in tiles)


def test_files_that_cannot_be_used_are_skipped_and_named(tmp_path):
    outside, folder = tmp_path / "outside.png", tmp_path / "folder"
    folder.mkdir()
    photograph(outside)
    for number in range(3):
        photograph(folder / f"good{number}.jpg", size=(500, 400))
    photograph(folder / "small.png", size=(100, 400))
    (folder / "link.png").symlink_to(outside)
    (folder / "text.png").write_text("no image")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "cut.jpg").write_bytes((folder / "good0.jpg").read_bytes()[:2000])
    (folder / "postscript.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 300 300\n")
    (folder / "bomb.png").write_bytes(png_that_says(100_000, 100_000))
    (folder / "large.png").write_bytes(png_that_says(10_000, 10_000))
    (folder / "cut.png").write_bytes(png_that_says(300, 300))
    (folder / "notes.txt").write_text("not looked at")
    found = natural_images(folder, limit=40, seed=0)
    assert 3 <= len(found.tiles) <= 18
    assert found.files_used == 3
    assert {name: reason.split(" (")[0] for name, reason in found.skipped.items()} == {
        "bomb.png": "more than 50000000 pixels",
        "cut.jpg": "not a whole image",
        "cut.png": "not a whole image",
        "empty.jpg": "not a whole image",
        "large.png": "more than 50000000 pixels",
        "link.png": "a link that leaves the folder",
        "postscript.jpg": "not a whole image",
        "small.png": "smaller than 224 px",
        "text.png": "not a whole image",
    }


def test_a_folder_without_images_says_so(tmp_path):
    with pytest.raises(ValueError, match="0 usable tiles"):
        natural_images(tmp_path, limit=10, seed=0)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        natural_images(tmp_path / "nowhere", limit=10, seed=0)


def test_another_file_is_another_version(tmp_path):
    photograph(tmp_path / "a.png")
    before = folder_version(tmp_path)
    assert folder_version(tmp_path) == before
    photograph(tmp_path / "b.png")
    assert folder_version(tmp_path) != before
