"""The workspace of a study, a Dagster resource: where outputs are stored, and how every output is made and recorded."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from ecg_pipeline.ecg import Progress
from ecg_pipeline.links import audit_page
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.orchestration.checks import blocks, failure_text, outcome
from ecg_pipeline.orchestration.execution import CONFIG, Execution, from_environment, limit_threads
from ecg_pipeline.orchestration.identity import payload_of
from ecg_pipeline.orchestration.io_managers import HandleIOManager
from ecg_pipeline.orchestration.made_of import made_of
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.orchestration.progress import report_progress
from ecg_pipeline.orchestration.shown import as_json, from_json
from ecg_pipeline.provenance.ancestry import conflicts, outdated, partition_name
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.environment import (
    command,
    environment,
    git_state,
    hardware,
    package_versions,
    peak_memory_bytes,
    user,
)
from ecg_pipeline.provenance.lease import clear_leftovers, hold, process_json
from ecg_pipeline.provenance.record import Record, Upstream, build_id, content_version, seeds_in
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.study import Study, study_content, study_home
from ecg_pipeline.tracking import MlflowRun, training_run


@dataclass
class Build:
    """An output being made. previous: returns the folder of the newest output of the same code version, to reuse."""

    folder: Path
    previous: Callable[[], Path | None]
    progress: Progress
    tags: dict[str, str]
    mlflow_run_id: str | None = None
    mlflow_model_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def note_mlflow_run(self, run_id: str, page: str) -> None:
        """Store the MLflow run of the training, for the record and the metadata."""
        self.mlflow_run_id = run_id
        self.metadata["mlflow_run"] = dg.MetadataValue.url(page)


FITTED = {name for family in FAMILIES.values() for name in family.fitted} | {"pretrained_checkpoint", "finetuned_model"}
"""Last parts of the asset keys of fitted outputs, whose upstream may be older than the data they are applied to."""

HOSPITAL_SYSTEM = dg.AssetKey("hospital_system")
"""The invented hospitals of a synthetic study: the one asset that writes files into drop folders."""

PROCESS = "ecg_pipeline/process"
"""Run tag: the process of a run, to find out whether it is still alive."""

Events = Iterator[dg.AssetCheckResult | dg.MaterializeResult]
"""What an asset yields: check results and its materialisation."""


@dataclass(frozen=True)
class Workspace:
    """A study in its home folder: its archive, its execution settings, and `materialise`, which makes outputs.

    Not Dagster's own workspace (`workspace.yaml`), which lists code locations. Execution settings never enter a code
    version.
    """

    study: Study
    home: Path
    source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]
    handles: HandleIOManager
    execution: Execution
    terminal: Callable[[str], None] | None = None

    def with_terminal_progress(self, terminal: Callable[[str], None]) -> "Workspace":
        """A copy that reports progress to a terminal as well as to the run's log."""
        return replace(self, terminal=terminal)

    def configured(self, config: Mapping[str, Any]) -> "Workspace":
        """A copy with the execution settings of a run's config."""
        return replace(self, execution=self.execution.configured(config))

    @property
    def archive(self) -> Archive:
        """The tree of outputs and records."""
        return self.handles.archive

    @property
    def workers(self) -> int:
        """Processes for the data stages."""
        return self.execution.workers

    @property
    def device(self) -> str:
        """Where networks run."""
        return self.execution.device

    def upstream(self, graph: AssetGraph, key: dg.AssetKey, partition: str | None) -> tuple[Upstream, ...]:
        """Upstream partitions of a partition, with their current versions. NotMaterialised if one is missing."""
        return tuple(self._upstream_entry(*of) for of in upstream_partitions(graph, key, partition))

    def conflicts(self, upstream: Sequence[Upstream]) -> list[str]:
        """Messages on upstream assets that one output would have in several versions, and what to materialise."""
        found = []
        for conflict in conflicts(self.archive, upstream, lambda asset: asset.split("/")[-1] in FITTED):
            asset, partition = conflict.ancestor
            stale = outdated(conflict, self._newest(dg.AssetKey.from_user_string(asset), partition))
            again = (
                f"materialise {', '.join(map(partition_name, stale))} again, and then this partition"
                if stale
                else "materialise this partition again"
            )
            found.append(
                f"{partition_name(conflict.ancestor)} is upstream in {len(conflict.through)} versions: {again}"
            )
        return found

    @contextmanager
    def training(self, build: Build) -> Iterator[MlflowRun]:
        """Run a training inside an MLflow run, whose id is stored in the build."""
        with training_run(self.home, self.study.name, build.tags) as run:
            build.note_mlflow_run(run.run_id, run.page)
            yield run

    def materialise(
        self,
        context: dg.AssetExecutionContext,
        handle: Callable[[Path], Any],
        *,
        make: Callable[[Build], object],
        metadata_of: Callable[[Any], Mapping[str, Any]],
        metadata_now: Callable[[], Mapping[str, Any]] = dict,
        check: Callable[[Any], Iterable[dg.AssetCheckResult]] = lambda made: (),
        read: Mapping[dg.AssetKey, str] | None = None,
    ) -> Events:
        """Make one partition's output and its record, unless it is up to date, and yield its MaterializeResult.

        make: writes the build's folder. handle: opens it. metadata_of: metadata for the UI, stored
        with the record. metadata_now: metadata that change though the output does not. check: if a blocking check
        fails, the results are reported and the step fails without a record, so the previous output stays current. read:
        data versions of source assets as the asset body read them.
        """
        asset = context.asset_key.to_user_string()
        partition = context.partition_key if context.has_partition_key else None
        if PROCESS not in context.run.tags:
            context.instance.add_run_tags(context.run.run_id, {PROCESS: process_json()})
        limit_threads(self.execution.threads)
        upstream = self._upstream_read(context, partition, read or {})
        if found := self.conflicts(upstream):
            raise dg.Failure("\n".join(found))
        place = self.archive.place(asset, partition)
        with hold(
            place, lambda holder: context.log.info(f"{partition_name((asset, partition))} waits for {holder}")
        ) as lease:
            clear_leftovers(place)
            self.archive.finish_interrupted_save(asset, partition)
            made, record, added = self._make_if_stale(
                context, asset=asset, partition=partition, upstream=upstream, handle=handle, make=make
            )
            checks = list(check(made))
            outcomes = tuple(map(outcome, checks))
            is_accepted, is_new = not any(map(blocks, checks)), record.digest is None
            if is_new and not is_accepted:
                self.archive.note_failed_checks(asset, partition, outcomes)
            if is_new and is_accepted:
                shown = self.archive.documents.save(as_json({**metadata_of(made), **added}))
                lease.check()
                record = self.archive.save(replace(record, checks=outcomes, shown=shown))
        if not is_accepted:
            yield from checks
            what = partition_name((asset, partition))
            raise dg.Failure(f"{what} was not materialised, because a check failed:\n{failure_text(checks)}")
        # What was shown is stored, so that an output that is up to date need not be read again to be shown.
        metadata = from_json(self.archive.documents.read(record.shown)) if record.shown else metadata_of(made)
        yield self._result(made, record, metadata={**metadata, **added, **metadata_now()}, checks=checks)

    def _upstream_entry(self, key: dg.AssetKey, partition: str | None) -> Upstream:
        """A partition as it is now, as an entry of a record."""
        asset, observe = key.to_user_string(), self.source_versions.get(key)
        if observe:
            return Upstream(asset, partition, observe(partition))
        record = self.archive.require(asset, partition)
        return Upstream(asset, partition, record.data_version, record.digest)

    def _newest(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """Current data version of a partition; None if it is missing, such as a folder of an unmounted disk."""
        try:
            return self._upstream_entry(key, partition).data_version
        except FileNotFoundError:
            return None

    def _upstream_read(
        self, context: dg.AssetExecutionContext, partition: str | None, read: Mapping[dg.AssetKey, str]
    ) -> tuple[Upstream, ...]:
        """Upstream versions of a partition: those of the loaded handles, and of source assets as read."""
        loaded, graph = self.handles.loaded(context), context.job_def.asset_layer.asset_graph

        def entry(key: dg.AssetKey, of_partition: str | None) -> Upstream:
            asset = key.to_user_string()
            if key in read:
                return Upstream(asset, of_partition, read[key])
            return loaded.get((asset, of_partition)) or self._upstream_entry(key, of_partition)

        return tuple(entry(*of) for of in upstream_partitions(graph, context.asset_key, partition))

    def _make_if_stale(
        self,
        context: dg.AssetExecutionContext,
        *,
        asset: str,
        partition: str | None,
        upstream: tuple[Upstream, ...],
        handle: Callable[[Path], Any],
        make: Callable[[Build], object],
    ) -> tuple[Any, Record, dict[str, Any]]:
        """Make an output if it is stale. Returns handle, record (new ones without digest) and metadata of this run."""
        spec = context.assets_def.specs_by_key[context.asset_key]
        code_version = spec.code_version or ""
        newest = self.archive.newest(asset, partition)
        if newest and newest.is_of(code_version, upstream):
            return handle(self.archive.folder(newest)), newest, {"unchanged": True}
        started, build = datetime.now(UTC), build_id(code_version, upstream)
        work = Build(
            self.archive.build_folder(asset, partition, build),
            partial(self._previous_build, newest, code_version, context.log.warning),
            report_progress(context, self.terminal),
            _tags(context, self.study),
        )
        work.folder.mkdir(parents=True, exist_ok=True)
        make(work)
        files, (commit, dirty), payload = folder_digests(work.folder), git_state(), payload_of(spec)
        record = Record(
            asset=asset,
            partition=partition,
            build=build,
            data_version=content_version(files),
            code_version=code_version,
            identity=payload,
            study=self.study.fingerprint(),
            study_text=self.archive.documents.save(study_content(self.study)),
            upstream=upstream,
            files=files,
            sizes={name: (work.folder / name).stat().st_size for name in files},
            seeds=seeds_in(payload),
            git_commit=commit,
            git_dirty=dirty,
            environment=self.archive.documents.save(environment()),
            packages=package_versions(),
            hardware=hardware(self.device, self.execution.threads),
            command=command(),
            user=user(),
            peak_memory_bytes=peak_memory_bytes(),
            dagster_run_id=context.run.run_id,
            mlflow_run_id=work.mlflow_run_id,
            mlflow_model_id=work.mlflow_model_id,
            started_at=started.isoformat(timespec="milliseconds"),
            ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        return handle(work.folder), record, work.metadata

    def _previous_build(self, record: Record | None, code_version: str, warn: Callable[[str], None]) -> Path | None:
        """Folder of the newest output, if the same code made it and every file is still as its record says."""
        if record is None or record.code_version != code_version:
            return None
        folder = self.archive.folder(record)
        if folder_digests(folder) != record.files:
            warn(f"{folder} differs from its record: nothing of it is reused")
            return None
        return folder

    def _result(
        self, made: Any, record: Record, *, metadata: Mapping[str, Any], checks: Iterable[dg.AssetCheckResult]
    ) -> dg.MaterializeResult:
        place = self.archive.place(record.asset, record.partition)
        folder = self.archive.folder(record)
        return dg.MaterializeResult(
            value=made,
            data_version=dg.DataVersion(record.data_version),
            metadata={
                **metadata,
                "dagster/uri": dg.MetadataValue.path(str(folder)),
                "record": dg.MetadataValue.path(str(place / "record.json")),
                "made_of": made_of(record),
                "audit": dg.MetadataValue.url(audit_page(folder, home=self.home)),
            },
            check_results=list(checks),
        )


def make_workspace(study: Study, source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]) -> Workspace:
    """The workspace of a study in the home that the environment names."""
    home = study_home(study)
    return Workspace(study, home, source_versions, HandleIOManager(Archive(home)), from_environment())


def workspace_resource(workspace: Workspace) -> dg.ResourceDefinition:
    """The workspace as a Dagster resource, whose config sets how a run is executed."""

    @dg.resource(config_schema=CONFIG, description="The study in its home; config: execution settings of a run.")
    def configured(context: dg.InitResourceContext) -> Workspace:
        return workspace.configured(context.resource_config)

    return configured


def _tags(context: dg.AssetExecutionContext, study: Study) -> dict[str, str]:
    commit, dirty = git_state()
    return {
        "asset": context.asset_key.to_user_string(),
        "partition": context.partition_key if context.has_partition_key else "",
        "dagster_run_id": context.run.run_id,
        "git_commit": f"{commit or 'unknown'}{' (changed)' if dirty else ''}",
        "study": study.name,
        "study_fingerprint": study.fingerprint(),
    }
