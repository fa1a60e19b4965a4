"""Drop folders, and what is read from them: the waveform store, the clinical labels and texts."""

from collections.abc import Callable, Iterator

import dagster as dg
import polars as pl

from ecg_pipeline.ingest import labels, store
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files, listing_version, reason_to_confirm, settled_files
from ecg_pipeline.ingest.labels import ClinicalLabels, collect_labels
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.hospitals import hospital_deps
from ecg_pipeline.orchestration.checks import blocking_checks, check_result, warning_checks, warning_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.orchestration.withdrawn import no_withdrawn_patients
from ecg_pipeline.provenance.withdraw import CHECK
from ecg_pipeline.study import Study, drop_folder, site_key
from ecg_pipeline.texts import site_texts
from ecg_pipeline.texts.site_texts import ClinicalTexts, collect_texts

GROUP = "ingest"
RAW = dg.AssetKey("raw_ecg_files")
HOUR = "0 * * * *"
"""Schedule on which the daemon observes the drop folders."""

STORE = dg.AssetKey("waveform_store")
WHOLE, UNDERSTOOD = "drop_folder_is_whole", "reader_understood_every_file"

SETTLE_S = 60.0
"""How long to wait before a recently changed file is listed again; synthetic studies do not wait."""


def raw_version(study: Study) -> Callable[[str | None], str]:
    """The data version of a site's drop folder: a digest of its file listing and its reading rules."""

    def version(site: str | None) -> str:
        drop = drop_folder(study, site or "")
        return listing_version(drop, list_files(drop))

    return version


def ingest_assets(study: Study) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Assets `raw_ecg_files`, `waveform_store`, `clinical_labels`, and in a study that pretrains on texts
    `clinical_texts`, by site."""
    sites, listings = site_partitions(study), _ListingCache(study)

    @dg.observable_source_asset(
        key=RAW,
        partitions_def=sites,
        group_name=GROUP,
        automation_condition=dg.AutomationCondition.on_cron(HOUR),
        required_resource_keys={"workspace"},
    )
    def raw_ecg_files(context: dg.OpExecutionContext) -> dg.DataVersionsByPartition:
        """The drop folder of one hospital (GE MUSE XML) or data set (WFDB); its version digests the file manifest."""
        workspace, versions = context.resources.workspace, {}
        # The sensor starts a run for each site; the command line observes all sites in one run.
        for site in [context.partition_key] if context.has_partition_key else study.sites:
            drop = drop_folder(study, site)
            listing = _listing(drop)
            why = reason_to_confirm(drop, listing, _last_count(workspace, site))
            # Dagster's signature lacks check evaluations, but `log_event` accepts them.
            context.log_event(_observation_check(site, why))  # pyright: ignore[reportArgumentType]
            if listing is None or why:
                context.log.warning(why)
            else:
                versions[site] = dg.DataVersion(listing_version(drop, listing))
        return dg.DataVersionsByPartition(versions)

    @dg.asset(
        key=STORE,
        partitions_def=sites,
        deps=[raw_ecg_files, *hospital_deps(study)],
        group_name=GROUP,
        check_specs=[
            *blocking_checks(STORE.path, WHOLE, CHECK, partitions=sites),
            *warning_checks(STORE.path, UNDERSTOOD, partitions=sites),
        ],
        kinds={"zarr", "parquet"},
        pool=DATA,
        **identified(store.REVISION, ingest=study.ingest),
    )
    def waveform_store(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """Waveforms as recorded in Zarr, one row an ECG in `ecgs.parquet`, one row a file not used in `rejects`."""
        site = context.partition_key
        drop, key, listing = drop_folder(study, site), site_key(study, site), listings.settled(context)
        why = reason_to_confirm(drop, listing, _last_count(workspace, site))
        if listing is None or (why and not workspace.execution.accept_fewer_files):
            yield from _refused_folder(workspace, site, why)
            raise dg.Failure(why)

        def check(made: WaveformStore) -> Iterator[dg.AssetCheckResult]:
            yield check_result(WHOLE, [], note=f"accepted by `accept_fewer_files`: {why}" if why else "")
            yield _reader_errors_check(made)
            yield no_withdrawn_patients(study, workspace.home, made.folder)

        yield from workspace.materialise(
            context,
            WaveformStore,
            make=lambda build: ingest_site(
                drop,
                listing,
                recipe=study.ingest,
                key=key,
                out=build.folder,
                workers=workspace.workers,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata_of=metadata.waveform_store,
            check=check,
            read={RAW: listing_version(drop, listing)},
        )

    @dg.asset(
        partitions_def=sites,
        deps=[raw_ecg_files, *hospital_deps(study)],
        group_name=GROUP,
        kinds={"parquet"},
        pool=DATA,
        **identified(labels.REVISION),
    )
    def clinical_labels(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """Measurements, diagnoses and statements, apart from the waveforms because they change independently."""
        site = context.partition_key
        drop, key, listing = drop_folder(study, site), site_key(study, site), listings.settled(context)
        if listing is None:
            raise dg.Failure(reason_to_confirm(drop, listing, 0))
        yield from workspace.materialise(
            context,
            ClinicalLabels,
            make=lambda build: collect_labels(drop, listing, key=key, out=build.folder),
            metadata_of=metadata.clinical_labels,
            read={RAW: listing_version(drop, listing)},
        )

    @dg.asset(
        partitions_def=sites,
        deps=[raw_ecg_files, *hospital_deps(study)],
        group_name=GROUP,
        kinds={"parquet"},
        pool=DATA,
        **identified(site_texts.REVISION),
    )
    def clinical_texts(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """What carts and physicians wrote on the ECGs, cleaned of people, dates and codes."""
        site = context.partition_key
        drop, key, listing = drop_folder(study, site), site_key(study, site), listings.settled(context)
        if listing is None:
            raise dg.Failure(reason_to_confirm(drop, listing, 0))
        yield from workspace.materialise(
            context,
            ClinicalTexts,
            make=lambda build: collect_texts(drop, listing, key=key, out=build.folder),
            metadata_of=metadata.clinical_texts,
            read={RAW: listing_version(drop, listing)},
        )

    read = [clinical_labels, clinical_texts] if "text_tokens" in study.targets else [clinical_labels]
    return [raw_ecg_files, waveform_store, *read]


class _ListingCache:
    """Caches the drop folder listing of a run, so that all assets of the run read the same files."""

    def __init__(self, study: Study):
        self.study = study
        self.cached: tuple[str, pl.DataFrame | None] = "", None

    def settled(self, context: dg.AssetExecutionContext) -> pl.DataFrame | None:
        """Files of the run's site that are not being written; None if there is no folder."""
        site, run = context.partition_key, context.run.run_id
        if self.cached[0] != run:
            drop = drop_folder(self.study, site)
            wait_s = 0.0 if self.study.sites[site].patients == "synthetic" else SETTLE_S
            self.cached = run, settled_files(drop, wait_s) if drop.path.is_dir() else None
        return self.cached[1]


def _refused_folder(workspace: Workspace, site: str, why: str | None) -> Iterator[dg.AssetCheckResult]:
    """Check results of a site whose drop folder is not read: the failure, and the reader errors of the newest store."""
    yield check_result(WHOLE, [why or ""])
    if newest := _newest_store(workspace, site):
        yield _reader_errors_check(newest)
        yield no_withdrawn_patients(workspace.study, workspace.home, newest.folder)


def _listing(drop: DropFolder) -> pl.DataFrame | None:
    return list_files(drop) if drop.path.is_dir() else None


def _last_count(workspace: Workspace, site: str) -> int:
    """Number of files that the newest waveform store of a site was read from."""
    store = _newest_store(workspace, site)
    return store.files_seen() if store else 0


def _newest_store(workspace: Workspace, site: str) -> WaveformStore | None:
    """The newest waveform store of a site; None if there is none."""
    record = workspace.archive.newest(STORE.to_user_string(), site)
    return WaveformStore(workspace.archive.folder(record)) if record else None


def _reader_errors_check(store: WaveformStore) -> dg.AssetCheckResult:
    """Check result that warns of unexpected exceptions of the reader."""
    errors = store.reader_errors().items()
    return warning_result(UNDERSTOOD, [f"{error} in {files} files: please report it" for error, files in errors])


def _observation_check(site: str, why: str | None) -> dg.AssetCheckEvaluation:
    """Check result of an observation of a drop folder: a warning if its listing is implausible, else passed."""
    return dg.AssetCheckEvaluation(
        asset_key=STORE,
        check_name=WHOLE,
        passed=why is None,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"found": [why or "nothing"]},
        blocking=False,
        partition=site,
    )
