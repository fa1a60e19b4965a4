"""The patch tokens of a site, in the same shards as its images."""

from dataclasses import dataclass
from pathlib import Path

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.storage.files import digest_json, folder_digests
from ecg_pipeline.storage.shards import ArrayShards, Shard, build_shards, write_index
from ecg_pipeline.tokens.tokenizer import ImageTokenizer

REVISION = 1
"""Bumped by hand when this module's results change."""


@dataclass(frozen=True)
class TokenShards(ArrayShards):
    """A site's patch tokens: (n, P) int16 per shard, patches row-major."""


def tokenise_site(
    images: ImageShards,
    tokenizer: ImageTokenizer,
    out: Path,
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> TokenShards:
    """Encode the patches of a site's images as tokens, shard by shard, into `out`.

    Shards that exist for the same images and tokenizer are not encoded again; they may come from `previous`, an earlier
    output.
    """
    from ecg_pipeline.tokens.encode import load_tokenizer

    loaded, weights = load_tokenizer(tokenizer, device), folder_digests(tokenizer.folder)

    def encode(shard: int) -> Shard:
        return Shard(loaded.encode(images.read(shard)), {"vocabulary": tokenizer.vocabulary})

    def input_digest(shard: int) -> str:
        return digest_json([images.digest(shard), weights])

    build_shards(images, out=out, work=encode, input_digest=input_digest, previous=previous, progress=progress)
    write_index(out, images.scan())
    return TokenShards(out)
