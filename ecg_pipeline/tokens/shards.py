"""A site's patch tokens, part by part as its sheets."""

from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.files import digest_json, folder_digests
from ecg_pipeline.storage.shards import ArrayParts, PartsWriter
from ecg_pipeline.tokens.tokenizer import ImageTokenizer

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TokenShards(ArrayParts):
    """A site's tokens: (n, P) int16 a part, row-major over the grid of patches."""


def tokenise_site(
    images: ImageShards,
    tokenizer: ImageTokenizer,
    out: Path,
    device: str = "cpu",
    progress: Progress = no_progress,
    before: Path | None = None,
) -> TokenShards:
    """Encode every patch of a site's sheets as a token. Parts that stand in `out` are kept, and those of `before`, an
    earlier output, are taken over where sheets and tokenizer are the same.
    """
    from ecg_pipeline.tokens.encode import load_tokenizer

    loaded, writer, parts = load_tokenizer(tokenizer, device), PartsWriter(out, before), images.parts()
    names = folder_digests(tokenizer.folder)
    for done, part in enumerate(parts, start=1):
        if not writer.stands(part, digest_json([images.digest(part), names])):
            writer.write(part, loaded.ids(images.read(part)), {"vocabulary": tokenizer.vocabulary})
        progress(done, len(parts))
    writer.finish(images.scan())
    return TokenShards(out)
