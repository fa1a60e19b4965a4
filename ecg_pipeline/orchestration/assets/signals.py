"""Filtered waveforms (paper: Preprocessing), and the waveform windows that networks read."""

import dagster as dg

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.family import windows as view_of
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.views import view_key
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.signals import filters, windows
from ecg_pipeline.signals.filters import FilteredWaveforms, filter_site
from ecg_pipeline.signals.windows import WaveformWindows, cut_site
from ecg_pipeline.study import Study


def signal_assets(study: Study) -> list[dg.AssetsDefinition]:
    """Assets `filtered_waveforms`, for images, and `waveform_windows/{name}` of the windows that a model reads."""
    read = [name for name in study.windows if view_of(name) in study.views]
    return [*([_filtered_waveforms(study)] if study.has_images else []), *(_windows(study, name) for name in read)]


def _filtered_waveforms(study: Study) -> dg.AssetsDefinition:
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

    return filtered_waveforms


def _windows(study: Study, name: str) -> dg.AssetsDefinition:
    recipe = study.windows[name]

    @dg.asset(
        key=view_key(view_of(name)),
        partitions_def=site_partitions(study),
        group_name="signals",
        pool=DATA,
        kinds={"zarr"},
        **identified(windows.REVISION, window=recipe),
    )
    def waveform_windows(
        context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace], waveform_store: WaveformStore
    ) -> Events:
        """Waveforms of fixed leads, rate and length, which waveform networks read."""
        yield from workspace.materialise(
            context,
            WaveformWindows,
            make=lambda build: cut_site(
                waveform_store,
                recipe,
                build.folder,
                workers=workspace.workers,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=lambda made: metadata.waveform_windows(made, recipe.seconds),
        )

    return waveform_windows
