"""A site's patch tokens, part by part as its sheets."""

from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.ecg import Progress, silent
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.parts import ArrayParts, PartsWriter
from ecg_pipeline.tokens.tokenizer import ImageTokenizer

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TokenShards(ArrayParts):
    """A site's tokens: (n, P) int16 a part, row-major over the grid of patches."""


def tokenise_site(
    images: ImageShards, tokenizer: ImageTokenizer, out: Path, device: str = "cpu", progress: Progress = silent
) -> TokenShards:
    """Name the token of every patch of a site's sheets. Parts that stand in `out` are kept."""
    loaded, writer, parts = tokenizer.load(device), PartsWriter(out), images.parts()
    for done, part in enumerate(parts, start=1):
        if not writer.has(part):
            writer.write(part, loaded.ids(images.read(part)), {"vocabulary": tokenizer.vocabulary})
        progress(done, len(parts))
    writer.finish(images.index())
    return TokenShards(out)
