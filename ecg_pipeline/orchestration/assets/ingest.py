"""Files of a hospital or data set, the waveform store made of them, and the labels that came with them."""

from collections.abc import Callable, Iterator

import dagster as dg
import polars as pl

from ecg_pipeline.ingest import labels, store
from ecg_pipeline.ingest.drop_folder import DropFolder, implausible, list_files, listing_version, settled_files
from ecg_pipeline.ingest.labels import ClinicalLabels, collect_labels
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, fixed_key, load_key
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration import metadata
from ecg_pipeline.orchestration.assets.hospitals import hospital_deps
from ecg_pipeline.orchestration.checks import blocking_checks, check_result, warning_checks, warning_result
from ecg_pipeline.orchestration.identity import identified
from ecg_pipeline.orchestration.instance import DATA
from ecg_pipeline.orchestration.partitions import site_partitions
from ecg_pipeline.orchestration.resources import Events, Workspace
from ecg_pipeline.study import Study, drop_folder, study_home

GROUP = "ingest"
RAW = dg.AssetKey("raw_ecg_files")
HOUR = "0 * * * *"
"""When the daemon looks at the drop folders."""

STORE = dg.AssetKey("waveform_store")
WHOLE, UNDERSTOOD = "drop_folder_is_whole", "reader_understood_every_file"

SETTLE_S = 60.0
"""How long a file that was lately changed is watched before it is read; invented patients send no files."""


def raw_version(study: Study) -> Callable[[str | None], str]:
    """The data version of a site's drop folder: a digest of its files' names and states, and of its reading rules."""

    def version(site: str | None) -> str:
        drop = drop_folder(study, site or "")
        return listing_version(drop, list_files(drop))

    return version


def site_key(study: Study, site: str) -> PseudonymKey:
    """The key of a site's pseudonyms: the hospital's secret, or a fixed word where there is nothing to keep secret."""
    patients = study.sites[site].patients
    return load_key(study_home(study)) if patients == "private" else fixed_key(patients)


def ingest_assets(study: Study) -> list[dg.AssetsDefinition | dg.SourceAsset]:
    """Assets `raw_ecg_files`, `waveform_store` and `clinical_labels`, by site."""
    sites, looks = site_partitions(study), _Looks(study)

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
        # The sensor starts a run for each site; the command line looks at all of them in one.
        for site in [context.partition_key] if context.has_partition_key else study.sites:
            drop = drop_folder(study, site)
            listing = _listing(drop)
            why = implausible(drop, listing, _last_count(workspace, site))
            # Its signature leaves evaluations out, but they are what it is for, too.
            context.log_event(_looked(site, why))  # pyright: ignore[reportArgumentType]
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
            *blocking_checks(STORE.path, WHOLE, partitions=sites),
            *warning_checks(STORE.path, UNDERSTOOD, partitions=sites),
        ],
        kinds={"zarr", "parquet"},
        pool=DATA,
        **identified(store.REVISION, ingest=study.ingest),
    )
    def waveform_store(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Events:
        """Waveforms as recorded in Zarr, one row an ECG in `ecgs.parquet`, one row a file not used in `rejects`."""
        site = context.partition_key
        drop, key, listing = drop_folder(study, site), site_key(study, site), looks.settled(context)
        why = implausible(drop, listing, _last_count(workspace, site))
        if listing is None or (why and not workspace.execution.accept_fewer_files):
            yield check_result(WHOLE, [why or ""])
            if newest := _newest_store(workspace, site):
                yield _understood(newest)
            raise dg.Failure(why)

        def check(made: WaveformStore) -> Iterator[dg.AssetCheckResult]:
            yield check_result(WHOLE, [], f"accepted by hand: {why}" if why else "")
            yield _understood(made)

        yield from workspace.materialise(
            context,
            WaveformStore,
            lambda build: ingest_site(
                drop,
                listing,
                recipe=study.ingest,
                key=key,
                out=build.folder,
                workers=workspace.workers,
                progress=build.progress,
                previous=build.previous(),
            ),
            metadata.waveform_store,
            check,
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
        """Measurements, diagnoses and statements, apart from the waveforms because they change on their own."""
        site = context.partition_key
        drop, key, listing = drop_folder(study, site), site_key(study, site), looks.settled(context)
        if listing is None:
            raise dg.Failure(implausible(drop, listing, 0))
        yield from workspace.materialise(
            context,
            ClinicalLabels,
            lambda build: collect_labels(drop, listing, key=key, out=build.folder),
            metadata.clinical_labels,
            read={RAW: listing_version(drop, listing)},
        )

    return [raw_ecg_files, waveform_store, clinical_labels]


class _Looks:
    """Cache of one listing of a drop folder a run, so that all its outputs are read from the same files."""

    def __init__(self, study: Study):
        self.study = study
        self.taken: tuple[str, pl.DataFrame | None] = "", None

    def settled(self, context: dg.AssetExecutionContext) -> pl.DataFrame | None:
        """The settled files of the run's site; None where there is no folder."""
        site, run = context.partition_key, context.run.run_id
        if self.taken[0] != run:
            drop = drop_folder(self.study, site)
            wait_s = 0.0 if self.study.sites[site].patients == "synthetic" else SETTLE_S
            self.taken = run, settled_files(drop, wait_s) if drop.path.is_dir() else None
        return self.taken[1]


def _listing(drop: DropFolder) -> pl.DataFrame | None:
    return list_files(drop) if drop.path.is_dir() else None


def _last_count(workspace: Workspace, site: str) -> int:
    """Number of files that the newest waveform store of a site was read from."""
    store = _newest_store(workspace, site)
    return store.files_seen() if store else 0


def _newest_store(workspace: Workspace, site: str) -> WaveformStore | None:
    """The waveform store of a site that was made last; None before any."""
    record = workspace.archive.newest(STORE.to_user_string(), site)
    return WaveformStore(workspace.archive.folder(record)) if record else None


def _understood(store: WaveformStore) -> dg.AssetCheckResult:
    """Which exceptions a reader raised on the files of a store, if any."""
    errors = store.reader_errors().items()
    return warning_result(UNDERSTOOD, [f"{error} in {files} files: please report it" for error, files in errors])


def _looked(site: str, why: str | None) -> dg.AssetCheckEvaluation:
    """Check result of one look at a drop folder: a warning if its listing is implausible, else passed."""
    return dg.AssetCheckEvaluation(
        asset_key=STORE,
        check_name=WHOLE,
        passed=why is None,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"found": [why or "nothing"]},
        blocking=False,
        partition=site,
    )
