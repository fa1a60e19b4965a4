"""The house that assets work in: where outputs stand, and the one way in which an output comes to be."""

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
from ecg_pipeline.files import folder_digests
from ecg_pipeline.orchestration.checks import is_broken
from ecg_pipeline.orchestration.checks import told as found_by
from ecg_pipeline.orchestration.execution import CONFIG, Execution, from_environment, limit_threads
from ecg_pipeline.orchestration.identity import payload_of
from ecg_pipeline.orchestration.io_managers import HandleIOManager
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.provenance.ancestry import conflicts, outdated, told
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
from ecg_pipeline.study import Study, study_home
from ecg_pipeline.tracking import MlflowRun, training_run


@dataclass
class Build:
    """An output in the making. before: finds the newest output that the same code made of other inputs."""

    folder: Path
    before: Callable[[], Path | None]
    progress: Progress
    tags: dict[str, str]
    mlflow_run_id: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def remember_run(self, run_id: str, page: str) -> None:
        """Name the MLflow run that saw the training, in the record and in the UI."""
        self.mlflow_run_id = run_id
        self.metadata["mlflow_run"] = dg.MetadataValue.url(page)


FITTED = ("image_tokenizer", "pretrained_checkpoint", "finetuned_model")
"""Last words of the keys of what is fitted to data: an ancestor behind it may be older than what it is applied to."""

HOSPITALS = dg.AssetKey("hospital_system")
"""The invented hospitals of a synthetic study: the one asset that makes the files that others read."""

PROCESS = "ecg_pipeline/process"
"""Run tag: the process that works on a run, so that a run whose process died can be told from one that goes on."""

Events = Iterator[dg.AssetCheckResult | dg.MaterializeResult]
"""What the making of an output yields: its checks, and that it is materialised."""


@dataclass(frozen=True)
class House:
    """A study at work in its home. Execution never enters an identity."""

    study: Study
    home: Path
    source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]
    handles: HandleIOManager
    execution: Execution
    tell: Callable[[str], None] | None = None

    def telling(self, tell: Callable[[str], None]) -> "House":
        """The same house, whose progress goes to a terminal as well as to the run's log."""
        return replace(self, tell=tell)

    def configured(self, config: Mapping[str, Any]) -> "House":
        """The same house, with what a run's config says of its execution."""
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
        """What a partition would read now, with the versions as they stand. NotMaterialised where one is missing."""
        read = upstream_partitions(graph, key, partition)
        return tuple(Upstream(of.to_user_string(), part, self._version(of, part)) for of, part in read)

    def conflicts(self, upstream: Sequence[Upstream]) -> list[str]:
        """Sentences on ancestors that would go into one output with several versions, and on what to make again."""
        found = []
        for conflict in conflicts(self.archive, upstream, lambda asset: asset.split("/")[-1] in FITTED):
            asset, partition = conflict.ancestor
            stale = outdated(conflict, self._newest(dg.AssetKey.from_user_string(asset), partition))
            again = (
                f"materialise {', '.join(map(told, stale))} again, and then this" if stale else "materialise this again"
            )
            found.append(f"{told(conflict.ancestor)} would go in with {len(conflict.through)} versions: {again}")
        return found

    @contextmanager
    def training(self, build: Build) -> Iterator[MlflowRun]:
        """One MLflow run around the training of a build, which remembers it."""
        with training_run(self.home, self.study.name, build.tags) as run:
            build.remember_run(run.run_id, run.page)
            yield run

    def materialise(
        self,
        context: dg.AssetExecutionContext,
        handle: Callable[[Path], Any],
        make: Callable[[Build], object],
        show: Callable[[Any], Mapping[str, Any]],
        check: Callable[[Any], Iterable[dg.AssetCheckResult]] = lambda made: (),
        read: Mapping[dg.AssetKey, str] | None = None,
    ) -> Events:
        """Make one partition's output and its record, or find that it stands already.

        `make` fills the build's folder; `handle` opens it; `show` says what the UI draws; `check` holds the output back
        when it finds an error: then its results are told, the step fails, no record is written, and downstream goes on
        seeing the output before. read: versions of source assets as the body found them when it read them.
        """
        asset = context.asset_key.to_user_string()
        partition = context.partition_key if context.has_partition_key else None
        if PROCESS not in context.run.tags:
            context.instance.add_run_tags(context.run.run_id, {PROCESS: process_json()})
        limit_threads(self.execution.threads)
        upstream = self._loaded(context, partition, read or {})
        if found := self.conflicts(upstream):
            raise dg.Failure("\n".join(found))
        place = self.archive.place(asset, partition)
        with hold(place, lambda holder: context.log.info(f"{told((asset, partition))} waits for {holder}")) as lease:
            clear_leftovers(place)
            made, record, shown = self._made(context, asset, partition, upstream, handle, make)
            checks = list(check(made))
            is_kept = not any(map(is_broken, checks))
            if is_kept and "unchanged" not in shown:
                lease.check()
                self.archive.keep(record)
        if not is_kept:
            yield from checks
            raise dg.Failure(f"{told((asset, partition))} is held back:\n{found_by(checks)}")
        yield self._result(made, record, {**show(made), **shown}, checks)

    def _version(self, key: dg.AssetKey, partition: str | None) -> str:
        """The version that a partition has now."""
        observe = self.source_versions.get(key)
        return observe(partition) if observe else self.archive.require(key.to_user_string(), partition).data_version

    def _newest(self, key: dg.AssetKey, partition: str | None) -> str | None:
        """The version that a partition has now, or None where it is not there, such as a folder whose disk is gone."""
        try:
            return self._version(key, partition)
        except FileNotFoundError:
            return None

    def _loaded(
        self, context: dg.AssetExecutionContext, partition: str | None, read: Mapping[dg.AssetKey, str]
    ) -> tuple[Upstream, ...]:
        """What goes into a partition: the versions of the handles that were loaded, and of the sources as read."""
        loaded, graph = self.handles.loaded(context), context.job_def.asset_layer.asset_graph
        return tuple(
            loaded.get((parent.to_user_string(), part))
            or Upstream(parent.to_user_string(), part, read.get(parent) or self._version(parent, part))
            for parent, part in upstream_partitions(graph, context.asset_key, partition)
        )

    def _made(
        self,
        context: dg.AssetExecutionContext,
        asset: str,
        partition: str | None,
        upstream: tuple[Upstream, ...],
        handle: Callable[[Path], Any],
        make: Callable[[Build], object],
    ) -> tuple[Any, Record, dict[str, Any]]:
        """An output's handle, its record, and what the UI shows of its making: `unchanged` where it stood already."""
        spec = context.assets_def.specs_by_key[context.asset_key]
        code_version = spec.code_version or ""
        record = self.archive.newest(asset, partition)
        build = build_id(code_version, upstream)
        if record and record.build == build:
            return handle(self.archive.folder(record)), record, {"unchanged": True}
        started = datetime.now(UTC)
        work = Build(
            self.archive.place(asset, partition) / build,
            partial(self._before, record, code_version, context.log.warning),
            _logged(context, self.tell),
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

    def _before(self, record: Record | None, code_version: str, warn: Callable[[str], None]) -> Path | None:
        """Where the newest output stands, if the same code made it and every file is still as its record says."""
        if record is None or record.code_version != code_version:
            return None
        folder = self.archive.folder(record)
        if folder_digests(folder) != record.files:
            warn(f"{folder} is no longer what its record says: nothing is taken over from it")
            return None
        return folder

    def _result(
        self, made: Any, record: Record, metadata: Mapping[str, Any], checks: Iterable[dg.AssetCheckResult]
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


def make_house(study: Study, source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]) -> House:
    """The house of a study in the home that the environment names."""
    home = study_home(study)
    return House(study, home, source_versions, HandleIOManager(Archive(home / "assets")), from_environment())


def house_resource(house: House) -> dg.ResourceDefinition:
    """The house as a Dagster resource, whose config says how a run is carried out."""

    @dg.resource(config_schema=CONFIG, description="The study in its home; config: how a run is carried out.")
    def configured(context: dg.InitResourceContext) -> House:
        return house.configured(context.resource_config)

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


def _logged(context: dg.AssetExecutionContext, tell: Callable[[str], None] | None) -> Progress:
    """Progress for a terminal, and for the run's log at most once a tenth of the work, with speed and time left."""
    told, began, first = -1, time.monotonic(), None
    what = " ".join(
        [context.asset_key.to_user_string(), *([context.partition_key] if context.has_partition_key else [])]
    )

    def progress(done: int, total: int) -> None:
        nonlocal told, began, first
        if first is None:
            # What a killed run had done, or what it takes to begin, is no measure of speed.
            first, began = done, time.monotonic()
        speed = (done - first) / max(time.monotonic() - began, 1e-9)
        left = f", {speed:.3g}/s, {(total - done) / speed:.0f} s left" if speed else ""
        if tell:
            tell(f"{what}: {done} of {total}{left}")
        tenth = 10 * done // max(1, total)
        if tenth != told:
            told = tenth
            context.log.info(f"{what}: {done} of {total}{left}")

    return progress
