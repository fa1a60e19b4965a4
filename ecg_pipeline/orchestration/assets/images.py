"""ECGs as images, and how far these are from natural ones."""

import os
from pathlib import Path

import dagster as dg

from ecg_pipeline.images import distance, shards
from ecg_pipeline.images.distance import ImageDistance, measure_distances
from ecg_pipeline.images.natural import folder_version
from ecg_pipeline.images.shards import ImageShards, render_site
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.study import Study, StudyError

NATURAL = dg.AssetKey("natural_images")


def natural_folder(study: Study) -> Path | None:
    """The folder of natural images that a study names, below `ECG_DATA`."""
    if study.image_distance.natural is None:
        return None
    data = os.environ.get("ECG_DATA")
    if not data:
        raise StudyError("image_distance.natural names a folder below ECG_DATA, which is not set")
    return Path(data) / study.image_distance.natural


def natural_version(study: Study) -> str:
    """The data version of the natural images: that of their folder, or `shipped` for images in installed packages."""
    folder = natural_folder(study)
    return folder_version(folder) if folder else "shipped"


def image_assets(study: Study) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Asset `image_shards`, by site, `natural_images` and `image_distance`, of a study whose models read images."""
    if not study.has_images:
        return []

    @dg.observable_source_asset(key=NATURAL, group_name="images")
    def natural() -> dg.DataVersion:
        """Photographs to compare ECGs with: a folder that the study names, or three images in installed packages."""
        return dg.DataVersion(natural_version(study))

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="images",
        kinds={"zarr"},
        pool=DATA,
        **identified(shards.REVISION, sheet=study.sheet),
    )
    def image_shards(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], filtered_waveforms: FilteredWaveforms
    ) -> Events:
        """One 224 x 224 image an ECG: eight leads on a fixed scale of millivolts and time."""
        yield from workspace.materialise(
            context,
            ImageShards,
            make=lambda build: render_site(
                filtered_waveforms,
                study.sheet,
                build.folder,
                workers=workspace.workers,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=lambda made: metadata.image_shards(made, workspace.home),
        )

    @dg.asset(group_name="images", deps=[NATURAL], **identified(distance.REVISION, image_distance=study.image_distance))
    def image_distance(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], image_shards: dict[str, ImageShards]
    ) -> Events:
        """Wasserstein distances within and between ECG images and natural images (paper: Wasserstein Distance)."""
        yield from workspace.materialise(
            context,
            ImageDistance,
            make=lambda build: measure_distances(
                image_shards, study.image_distance, out=build.folder, natural=natural_folder(study)
            ),
            metadata_of=metadata.image_distance,
        )

    return [image_shards, natural, image_distance]
