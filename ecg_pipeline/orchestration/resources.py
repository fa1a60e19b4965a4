"""The house that assets work in: where outputs stand, and the one way in which an output comes to be."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import dagster as dg

from ecg_pipeline.ecg import Progress
from ecg_pipeline.files import digest_json, folder_digests
from ecg_pipeline.orchestration.partitions import AssetGraph, upstream_partitions
from ecg_pipeline.provenance.archive import Archive
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
from ecg_pipeline.study import Study, identity, study_home
from ecg_pipeline.tracking import MlflowRun, training_run

RECIPE = "recipe"
"""Key under which an asset's definition carries what its code version hashes."""


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


@dataclass(frozen=True)
class House:
    """A study at work in its home. Workers and device are execution: they never enter an identity."""

    study: Study
    home: Path
    source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]
    tell: Callable[[str], None] | None = None

    def telling(self, tell: Callable[[str], None]) -> "House":
        """The same house, whose progress goes to a terminal as well as to the run's log."""
        return replace(self, tell=tell)

    @property
    def archive(self) -> Archive:
        """The tree of outputs and records."""
        return Archive(self.home / "assets")

    @property
    def workers(self) -> int:
        """Processes for the data stages: `ECG_WORKERS`, by default the machine's cores."""
        return int(os.environ.get("ECG_WORKERS") or os.cpu_count() or 1)

    @property
    def device(self) -> str:
        """Where networks run: `ECG_DEVICE`, by default the processor."""
        return os.environ.get("ECG_DEVICE") or "cpu"

    @property
    def micro_batch(self) -> int | None:
        """Images that go through a network at once while it is pretrained: `ECG_MICRO_BATCH`, by default the batch."""
        return int(os.environ.get("ECG_MICRO_BATCH") or 0) or None

    def upstream(self, graph: AssetGraph, key: dg.AssetKey, partition: str | None) -> tuple[Upstream, ...]:
        """What a partition would read now, with the versions as they stand. NotMaterialised where one is missing."""

        def version(parent: dg.AssetKey, part: str | None) -> str:
            observe = self.source_versions.get(parent)
            return observe(part) if observe else self.archive.require(parent.to_user_string(), part).data_version

        read = upstream_partitions(graph, key, partition)
        return tuple(Upstream(parent.to_user_string(), part, version(parent, part)) for parent, part in read)

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
    ) -> dg.MaterializeResult:
        """Make one partition's output and its record, or find that it stands already.

        `make` fills the build's folder; `handle` opens it; `show` says what the UI draws; `check` holds the output back
        when it finds an error: then no record is written, and downstream goes on seeing the output before.
        """
        asset, spec = context.asset_key.to_user_string(), context.assets_def.specs_by_key[context.asset_key]
        partition = context.partition_key if context.has_partition_key else None
        upstream = self.upstream(context.job_def.asset_layer.asset_graph, context.asset_key, partition)
        code_version = spec.code_version or ""
        record = self.archive.newest(asset, partition)
        build = build_id(code_version, upstream)
        if record and record.build == build:
            made = handle(self.archive.folder(record))
            return self._result(made, record, {**show(made), "unchanged": True}, check(made))
        started = datetime.now(UTC)
        work = Build(
            self.archive.place(asset, partition) / build,
            partial(self._before, record, code_version, context.log.warning),
            _logged(context, self.tell),
            _tags(context, self.study),
        )
        work.folder.mkdir(parents=True, exist_ok=True)
        make(work)
        made = handle(work.folder)
        files, (commit, dirty), payload = folder_digests(work.folder), git_state(), _payload(spec)
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
            hardware={**hardware(), "device": self.device},
            dagster_run_id=context.run.run_id,
            mlflow_run_id=work.mlflow_run_id,
            started_at=started.isoformat(timespec="milliseconds"),
            ended_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        )
        checks = list(check(made))
        if all(result.passed for result in checks):
            self.archive.keep(record)
        return self._result(made, record, {**show(made), **work.metadata}, checks)

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


def weights_file(name: str) -> Path:
    """A local weights file that the study names, below `ECG_WEIGHTS` (by default ./weights)."""
    path = Path(os.environ.get("ECG_WEIGHTS") or "weights") / name
    if not path.is_file():
        raise FileNotFoundError(f"{path}: the study names these weights; put them there, or set ECG_WEIGHTS")
    return path


class Identified(TypedDict):
    """Arguments of `dg.asset`: the payload that an asset's results depend on, and its digest."""

    code_version: str
    metadata: dict[str, Any]


def identified(revision: int, **parts: Any) -> Identified:
    """What an asset's results depend on: its module's revision and its part of the study."""
    payload = {"revision": revision, **{name: identity(part) for name, part in parts.items()}}
    return {"code_version": digest_json(payload)[:16], "metadata": {RECIPE: dg.MetadataValue.json(payload)}}


def make_house(study: Study, source_versions: Mapping[dg.AssetKey, Callable[[str | None], str]]) -> House:
    """The house of a study in the home that the environment names."""
    return House(study, study_home(study), source_versions)


def _payload(spec: dg.AssetSpec) -> dict[str, Any]:
    return dict(spec.metadata[RECIPE].data)


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
