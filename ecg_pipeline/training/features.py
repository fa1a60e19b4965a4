"""Features of the examples of a view by frozen encoders, computed once a site: what linear probes are fitted to."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.storage.files import digest_json
from ecg_pipeline.storage.shards import ArrayShards, Shard, build_shards, write_index

if TYPE_CHECKING:
    from ecg_pipeline.training.classifier import Classifier

REVISION = 1
"""Bumped by hand when the results of `extract_features` change."""

INDEX = ("ecg_id", "shard", "row")


@dataclass(frozen=True)
class Features:
    """Features of a site's view by each of several encoders. Files: a folder of `ArrayShards` an encoder.

    An array has one row an example, (n, D) float32 a shard, in the view's shards, order and index. So a probe counts
    examples where it is fitted, and averages the probabilities of an ECG's examples where it is scored, as every model
    does; features are never averaged.
    """

    folder: Path

    def of(self, encoder: str) -> ArrayShards:
        """The features by one encoder, such as `pretrained/seed_0`."""
        return ArrayShards(self.folder / encoder)

    def encoders(self) -> list[str]:
        """Names of the encoders."""
        found = self.folder.glob("**/index.parquet")
        return sorted(path.parent.relative_to(self.folder).as_posix() for path in found)


def extract_features(
    view: ArrayShards,
    encoders: "Mapping[str, Callable[[], Classifier]]",
    out: Path,
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> Features:
    """Run each encoder over all examples of a view, shard by shard, and write its features to `out`.

    encoders: by name, functions that build a classifier, of which the part before its output layer is used, in eval
    mode. Shards that exist for the same examples and weights are not computed again; they may come from `previous`, an
    earlier output. A classifier without a linear output layer is a NotImplementedError: it could have no probe.
    """
    from ecg_pipeline.training.score import features_of
    from ecg_pipeline.training.weights import digest_state

    columns = [name for name in view.scan().collect_schema().names() if name not in INDEX]
    for place, (name, build) in enumerate(encoders.items()):
        classifier = build().to(device).eval()
        classifier.output_layer()
        weights = digest_state(classifier.state_dict())
        build_shards(
            view,
            out=out / name,
            work=lambda shard, classifier=classifier: Shard(features_of(classifier, view.read(shard), device=device)),
            input_digest=lambda shard, weights=weights: digest_json([view.digest(shard), weights]),
            previous=previous / name if previous else None,
            progress=lambda done, total, place=place: progress(place * total + done, len(encoders) * total),
        )
        write_index(out / name, view.scan(), columns)
    return Features(out)
