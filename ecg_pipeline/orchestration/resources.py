"""The workspace of a study, a Dagster resource: where outputs are stored, and how every output is made and recorded."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from ecg_pipeline.ecg import Progress
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.orchestration.checks import blocks, failure_text
from ecg_pipeline.orchestration.execution import CONFIG, Execution, from_environment, limit_threads
from ecg_pipeline.orchestration.identity import payload_of
from ecg_pipeline.orchestration.io_managers import HandleIOManager
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.provenance.ancestry import conflicts, outdated, partition_name
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.lease import clear_leftovers, hold, process_json
from ecg_pipeline.provenance.record import (
    Record,
    Upstream,
    build_id,
    content_version,
    git_state,
    hardware,
    package_versions,
    seeds_in,
)
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.study import Study, study_home
from ecg_pipeline.tracking import MlflowRun, training_run


@dataclass
class Build:
    """An output being made. previous: returns the folder of the newest output of the same code version, to reuse."""

    folder: Path
    previous: Callable[[], Path | None]
    progress: Progress
    tags: dict[str, str]
    mlflow_run_id: str | None = None
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
        read = upstream_partitions(graph, key, partition)
        return tuple(
            Upstream(of.to_user_string(), of_partition, self._version(of, of_partition)) for of, of_partition in read
        )

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
        check: Callable[[Any], Iterable[dg.AssetCheckResult]] = lambda made: (),
        read: Mapping[dg.AssetKey, str] | None = None,
    ) -> Events:
        """Make one partition's output and its record, unless it is up to date, and yield its MaterializeResult.

        make: writes the build's folder. handle: opens it. metadata_of: metadata for the UI. check: if a blocking check
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
            made, record, shown = self._make_if_stale(
                context, asset=asset, partition=partition, upstream=upstream, handle=handle, make=make
            )
            checks = list(check(made))
            is_accepted = not any(map(blocks, checks))
            if is_accepted and "unchanged" not in shown:
                lease.check()
                self.archive.save(record)
        if not is_accepted:
            yield from checks
            what = partition_name((asset, partition))
            raise dg.Failure(f"{what} was not materialised, because a check failed:\n{failure_text(checks)}")
        yield self._result(made, record, metadata={**metadata_of(made), **shown}, checks=checks)

    def _version(self, key: dg.AssetKey, partition: str | None) -> str:
        """Current data version of a partition."""
        observe = self.source_versions.get(key)
        return observe(partition) if observe else self.archive.require(key.to_user_string(), partition).data_version

    def _newest(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """Current data version of a partition; None if it is missing, such as a folder of an unmounted disk."""
        try:
            return self._version(key, partition)
        except FileNotFoundError:
            return None

    def _upstream_read(
        self, context: dg.AssetExecutionContext, partition: str | None, read: Mapping[dg.AssetKey, str]
    ) -> tuple[Upstream, ...]:
        """Upstream versions of a partition: those of the loaded handles, and of source assets as read."""
        loaded, graph = self.handles.loaded(context), context.job_def.asset_layer.asset_graph
        return tuple(
            loaded.get((parent.to_user_string(), of_partition))
            or Upstream(parent.to_user_string(), of_partition, read.get(parent) or self._version(parent, of_partition))
            for parent, of_partition in upstream_partitions(graph, context.asset_key, partition)
        )

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
        """Make an output if it is stale. Returns handle, record and metadata, `unchanged` if it was up to date."""
        spec = context.assets_def.specs_by_key[context.asset_key]
        code_version = spec.code_version or ""
        record = self.archive.newest(asset, partition)
        build = build_id(code_version, upstream)
        if record and record.build == build:
            return handle(self.archive.folder(record)), record, {"unchanged": True}
        started = datetime.now(UTC)
        work = Build(
            self.archive.place(asset, partition) / build,
            partial(self._previous_build, record, code_version, context.log.warning),
            _report_progress(context, self.terminal),
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
            upstream=upstream,
            files=files,
            seeds=seeds_in(payload),
            git_commit=commit,
            git_dirty=dirty,
            packages=package_versions(),
            hardware={**hardware(), "device": self.device, "threads": self.execution.threads},
            dagster_run_id=context.run.run_id,
            mlflow_run_id=work.mlflow_run_id,
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
        return dg.MaterializeResult(
            value=made,
            data_version=dg.DataVersion(record.data_version),
            metadata={
                **metadata,
                "dagster/uri": dg.MetadataValue.path(str(self.archive.folder(record))),
                "record": dg.MetadataValue.path(str(place / "record.json")),
            },
            check_results=list(checks),
        )


def make_workspace(study: Study, source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]) -> Workspace:
    """The workspace of a study in the home that the environment names."""
    home = study_home(study)
    return Workspace(study, home, source_versions, HandleIOManager(Archive(home / "assets")), from_environment())


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


def _report_progress(context: dg.AssetExecutionContext, terminal: Callable[[str], None] | None) -> Progress:
    """Progress callback that writes to a terminal and, once a tenth of the work, to the run's log."""
    reported, began, first = -1, time.monotonic(), None
    what = " ".join(
        [context.asset_key.to_user_string(), *([context.partition_key] if context.has_partition_key else [])]
    )

    def progress(done: int, total: int) -> None:
        nonlocal reported, began, first
        if first is None:
            # Neither what a killed run had done nor the time to start counts towards the speed.
            first, began = done, time.monotonic()
        speed = (done - first) / max(time.monotonic() - began, 1e-9)
        left = f", {speed:.3g}/s, {(total - done) / speed:.0f} s left" if speed else ""
        if terminal:
            terminal(f"{what}: {done} of {total}{left}")
        tenth = 10 * done // max(1, total)
        if tenth != reported:
            reported = tenth
            context.log.info(f"{what}: {done} of {total}{left}")

    return progress
