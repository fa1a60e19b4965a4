"""ECGs as images, and how far these are from natural ones."""

import dagster as dg

from ecg_pipeline.evaluation import wasserstein
from ecg_pipeline.evaluation.wasserstein import ImageDistance, measure_distances
from ecg_pipeline.images import shards
from ecg_pipeline.images.shards import ImageShards, render_site
from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import House, identified
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.study import Study


def image_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Asset `image_shards`, by site, and `image_distance`."""

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="images",
        kinds={"zarr"},
        **identified(shards.REVISION, sheet=study.sheet),
    )
    def image_shards(
        context: dg.AssetExecutionContext, house: dg.ResourceParam[House], filtered_waveforms: FilteredWaveforms
    ) -> dg.MaterializeResult[ImageShards]:
        """One 224 x 224 sheet an ECG: eight leads on a fixed scale of millivolts and time."""
        return house.materialise(
            context,
            ImageShards,
            lambda build: render_site(filtered_waveforms, study.sheet, build.folder, house.workers, build.progress),
            show.image_shards,
        )

    @dg.asset(group_name="images", **identified(wasserstein.REVISION, image_distance=study.image_distance))
    def image_distance(
        context: dg.AssetExecutionContext, house: dg.ResourceParam[House], image_shards: dict[str, ImageShards]
    ) -> dg.MaterializeResult[ImageDistance]:
        """Wasserstein distances within and between ECG sheets and natural images (paper: Wasserstein Distance)."""
        return house.materialise(
            context,
            ImageDistance,
            lambda build: measure_distances(image_shards, study.image_distance, build.folder),
            show.image_distance,
        )

    return [image_shards, image_distance]
