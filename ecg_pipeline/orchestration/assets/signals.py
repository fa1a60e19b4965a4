"""Filtered waveforms (paper: Preprocessing)."""

import dagster as dg

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.signals import filters
from ecg_pipeline.signals.filters import FilteredWaveforms, filter_site
from ecg_pipeline.study import Study


def signal_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Asset `filtered_waveforms`, by site."""

    @dg.asset(
        partitions_def=site_partitions(study),
        group_name="signals",
        pool=DATA,
        kinds={"zarr"},
        **identified(filters.REVISION, filters=study.filters),
    )
    def filtered_waveforms(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], waveform_store: WaveformStore
    ) -> Events:
        """Band-pass and median filter over the first seconds of the eight independent leads (paper: Preprocessing)."""
        yield from workspace.materialise(
            context,
            FilteredWaveforms,
            make=lambda build: filter_site(
                waveform_store,
                study.filters,
                build.folder,
                workers=workspace.workers,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=metadata.filtered_waveforms,
        )

    return [filtered_waveforms]
