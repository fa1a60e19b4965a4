"""Files of a hospital or data set, the waveform store made of them, and the labels that came with them."""

from collections.abc import Callable

import dagster as dg

from ecg_pipeline.orchestration import show
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import House, identified
from ecg_pipeline.orchestration.sensors import HOURLY
from ecg_pipeline.records import labels, store
from ecg_pipeline.records.drop_folder import list_files, listing_version
from ecg_pipeline.records.labels import ClinicalLabels, collect_labels
from ecg_pipeline.records.pseudonyms import PseudonymKey, fixed_key, load_key
from ecg_pipeline.records.store import WaveformStore, ingest_site
from ecg_pipeline.study import Study, drop_folder, identity, study_home

GROUP = "records"
RAW = dg.AssetKey("raw_ecg_files")


def raw_version(study: Study) -> Callable[[str | None], str]:
    """The data version of a site's drop folder: a digest of its manifest."""

    def version(site: str | None) -> str:
        drop = drop_folder(study, site or "")
        return listing_version(drop, list_files(drop))

    return version


def site_key(study: Study, site: str) -> PseudonymKey:
    """The key of a site's pseudonyms: the hospital's secret, or a fixed word where there is nothing to keep secret."""
    patients = study.sites[site].patients
    return load_key(study_home(study)) if patients == "private" else fixed_key(patients)


def record_assets(study: Study) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Assets `raw_ecg_files`, `waveform_store` and `clinical_labels`, by site."""
    sites = site_partitions(study)

    @dg.observable_source_asset(key=RAW, partitions_def=sites, group_name=GROUP, automation_condition=HOURLY)
    def raw_ecg_files() -> dg.DataVersionsByPartition:
        """The drop folder of one hospital (GE MUSE XML) or data set (WFDB); its version digests the file manifest."""
        version = raw_version(study)
        return dg.DataVersionsByPartition({site: dg.DataVersion(version(site)) for site in study.sites})

    @dg.asset(
        partitions_def=sites,
        deps=[raw_ecg_files],
        group_name=GROUP,
        kinds={"zarr", "parquet"},
        **identified(store.REVISION, ingest=study.ingest, sites=_doors(study)),
    )
    def waveform_store(
        context: dg.AssetExecutionContext, house: dg.ResourceParam[House]
    ) -> dg.MaterializeResult[WaveformStore]:
        """Waveforms as recorded in Zarr, one row an ECG in `records.parquet`, one row a file not used in `rejects`."""
        site = context.partition_key
        drop, key = drop_folder(study, site), site_key(study, site)
        return house.materialise(
            context,
            WaveformStore,
            lambda build: ingest_site(
                drop, list_files(drop), study.ingest, key, build.folder, house.workers, build.progress, build.before()
            ),
            show.waveform_store,
        )

    @dg.asset(
        partitions_def=sites,
        deps=[raw_ecg_files],
        group_name=GROUP,
        kinds={"parquet"},
        **identified(labels.REVISION, sites=_doors(study)),
    )
    def clinical_labels(
        context: dg.AssetExecutionContext, house: dg.ResourceParam[House]
    ) -> dg.MaterializeResult[ClinicalLabels]:
        """Measurements, diagnoses and statements, apart from the waveforms because they change on their own."""
        drop, key = drop_folder(study, context.partition_key), site_key(study, context.partition_key)
        return house.materialise(
            context,
            ClinicalLabels,
            lambda build: collect_labels(drop, list_files(drop), key, build.folder),
            show.clinical_labels,
        )

    return [raw_ecg_files, waveform_store, clinical_labels]


def _doors(study: Study) -> dict[str, object]:
    """What of the sites changes how their files are read."""
    fields = ("format", "patients", "site_names", "mrn_system", "label_tables")
    return {name: {field: identity(getattr(site, field)) for field in fields} for name, site in study.sites.items()}
