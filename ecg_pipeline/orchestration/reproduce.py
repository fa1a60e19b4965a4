"""Makes an output again from its record, in a scratch home of its own, and compares the files.

The study is the text that the record names. By default everything upstream is taken over from the original home, in the
recorded versions, so that the output alone is made; or everything is made again from the drop folders as they are now.
The original home is read only: builds are linked, and no output is ever changed in place.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import dagster as dg
import yaml

from ecg_pipeline.orchestration.assets import source_versions, study_assets
from ecg_pipeline.orchestration.assets.ingest import RAW
from ecg_pipeline.orchestration.execution import from_environment
from ecg_pipeline.orchestration.identity import payload_of
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.resources import HOSPITAL_SYSTEM
from ecg_pipeline.orchestration.run_worker import RunWorker
from ecg_pipeline.orchestration.runs import QUIET
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.diff import changes
from ecg_pipeline.provenance.environment import environment, git_state, hardware, package_versions
from ecg_pipeline.provenance.lineage import Lineage, lineage, output_name
from ecg_pipeline.provenance.record import Record
from ecg_pipeline.storage.files import folder_digests, link_or_copy, write_text
from ecg_pipeline.study import Study, StudyError, load_study

HOME = "${ECG_HOME}"
"""What a site's path starts with if its drop folder is in the study's home."""

DOOR = ("pseudonym.key", "withdrawals.json")
"""Files of a home, beside its outputs, that reading a drop folder depends on."""

CONDITIONS = ("machine", "system", "threads", "device", "gpu", "driver")
"""Hardware that may change rounding. The number of cores does not: threads are set apart from it."""

UNSET = ("DAGSTER_HOME", "MLFLOW_TRACKING_URI")
"""Environment variables that would lead a scratch home to the databases of another one."""


class CannotReproduce(RuntimeError):  # noqa: N818
    """An output cannot be made again: its record or what it was made of does not suffice, or its run failed."""


@dataclass(frozen=True)
class Mismatch:
    """A condition that is not here as it was when an output was made."""

    what: str
    recorded: str
    here: str


@dataclass(frozen=True)
class Comparison:
    """An output made again, file by file: equal, with other content, not made again, and not recorded."""

    recorded: Record
    made: Record
    equal: tuple[str, ...]
    altered: tuple[str, ...]
    missing: tuple[str, ...]
    added: tuple[str, ...]

    @property
    def is_equal(self) -> bool:
        """Whether all files are those of the record."""
        return not (self.altered or self.missing or self.added)


@dataclass(frozen=True)
class Reproduction:
    """An output to make again in a scratch folder, which must be empty or absent.

    is_whole: whether everything upstream is made again, too, from the drop folders as they are now.
    """

    archive: Archive
    record: Record
    scratch: Path
    is_whole: bool = False

    @cached_property
    def study(self) -> Study:
        """The study of the record, read from a file in the scratch folder. CannotReproduce if it is not recorded."""
        digest = self.record.study_text
        if digest is None or not self.archive.documents.path(digest).is_file():
            raise CannotReproduce(f"{output_name(self.record)}: the study that it was made from is not recorded")
        content = self.archive.documents.read(digest)
        write_text(self._study_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
        try:
            return load_study(self._study_file)
        except StudyError as error:
            raise CannotReproduce(f"the recorded study is not valid any more:\n{error}") from None

    @cached_property
    def target(self) -> Archive:
        """The archive of the scratch home."""
        return Archive(self.scratch / self.study.name)

    @cached_property
    def upstream(self) -> Lineage:
        """Everything upstream, by the recorded versions."""
        return lineage(self.archive, self.record)

    def mismatches(self) -> list[Mismatch]:
        """What is not here as it was when the output was made: code, packages, machine, settings, files."""
        self._link_inputs()
        found = [*_code(self.archive, self.record), *_machine(self.record), *self._settings()]
        return [*found, *(self._sources() if self.is_whole else self._inputs())]

    def run(self, progress: Callable[[str], object] = lambda text: None) -> list[Comparison]:
        """Make the output again, upstream first, and compare it. CannotReproduce if a run fails."""
        recorded = self._recorded()
        self._link_inputs()
        if not self.is_whole:
            self._take_over_upstream()
        with self._environment(), open_instance(self.target.home) as instance:
            worker = RunWorker(instance.root_directory)
            try:
                for record in recorded:
                    progress(output_name(record))
                    _make(worker, record, progress)
            finally:
                worker.end()
        return [_compare(record, self.target.require(record.asset, record.partition)) for record in recorded]

    @property
    def _study_file(self) -> Path:
        return self.scratch / "study.yaml"

    def _recorded(self) -> list[Record]:
        """The records of what is made again, upstream first; of several versions of one output the last."""
        if not self.is_whole:
            return [self.record]
        return list({(record.asset, record.partition): record for record in self.upstream.records}.values())

    def _settings(self) -> Iterator[Mismatch]:
        """What the study and the code now say, against what the records say."""
        if self.study.fingerprint() != self.record.study:
            yield Mismatch("fingerprint of the study", self.record.study, self.study.fingerprint())
        assets = (asset for asset in study_assets(self.study) if isinstance(asset, dg.AssetsDefinition))
        specs = {spec.key.to_user_string(): spec for asset in assets for spec in asset.specs}
        for record in self._recorded():
            if record.asset not in specs:
                yield Mismatch(output_name(record), "an asset of the study", "none")
                continue
            for one in changes(record.identity, payload_of(specs[record.asset])):
                yield Mismatch(f"{output_name(record)}: {one.field}", str(one.a), str(one.b))
        for record in self.upstream.records if self.is_whole else ():
            if record not in self._recorded():
                yield Mismatch(output_name(record), "upstream in several versions", "made in one version")

    def _inputs(self) -> Iterator[Mismatch]:
        """Direct inputs that are not as recorded. CannotReproduce if one is gone."""
        yield from self._sources()
        for record in self._direct():
            folder = self.archive.folder(record)
            if not folder.is_dir():
                raise CannotReproduce(
                    f"{output_name(record)}, build {record.build}, is no longer on disk, and "
                    f"{output_name(self.record)} was made of it. With --all it is made again, too."
                )
            if altered := [one.field for one in changes(record.files, folder_digests(folder))]:
                yield Mismatch(f"files of {output_name(record)}", "as in its record", f"altered: {', '.join(altered)}")

    def _sources(self) -> Iterator[Mismatch]:
        """Source files that are read and not as recorded. Those that are written again are left out."""
        entries = self.upstream.sources if self.is_whole else self.record.upstream
        versions = source_versions(self.study)
        for entry in entries:
            key = dg.AssetKey.from_user_string(entry.asset)
            if key not in versions or (key == RAW and self.is_whole and self.study.synthetic):
                continue
            try:
                with self._environment():
                    here = versions[key](entry.partition)
            except (FileNotFoundError, StudyError) as error:
                here = str(error)
            if not here.startswith(entry.data_version):
                yield Mismatch(f"files of {output_name(entry)}", entry.data_version, here)

    def _direct(self) -> list[Record]:
        """The records of the direct inputs. CannotReproduce if one is gone."""
        sources, records = source_versions(self.study), []
        for entry in self.record.upstream:
            if dg.AssetKey.from_user_string(entry.asset) in sources:
                continue
            record = self.archive.upstream_record(entry)
            if record is None:
                raise CannotReproduce(f"the record of {output_name(entry)}, version {entry.data_version}, is gone")
            records.append(record)
        return records

    def _take_over_upstream(self) -> None:
        """Make the recorded versions the newest of the scratch home: all records, and the files of direct inputs.

        The older records of direct inputs are taken over, too: reports say how often an output was made.
        """
        direct = self._direct()
        for record in self.upstream.records[:-1]:
            if record not in direct:
                self._take_over(record)
        for record in direct:
            shutil.copytree(
                self.archive.folder(record),
                self.target.folder(record),
                copy_function=link_or_copy,
                dirs_exist_ok=True,
            )
            for old in reversed([*self.archive.history(record.asset, record.partition)]):
                if old.ended_at < record.ended_at:
                    self._take_over(old)
            self._take_over(record)

    def _take_over(self, record: Record) -> None:
        """Store a record of the original home, and the documents that it names, in the scratch home."""
        for digest in filter(None, (record.study_text, record.environment, record.shown)):
            if self.archive.documents.path(digest).is_file():
                self.target.documents.save(self.archive.documents.read(digest))
        self.target.save(record)

    def _link_inputs(self) -> None:
        """Link what drop folders are read with, and drop folders in the original home, into the scratch home.

        A hospital system that is written again gets a folder of its own.
        """
        paths = [PurePath(site.path) for site in self.study.sites.values()]
        names = {path.parts[1] for path in paths if path.parts[0] == HOME}
        if self.study.synthetic and (self.is_whole or self.record.asset == HOSPITAL_SYSTEM.to_user_string()):
            names = set[str]()
        for name in (*names, *DOOR):
            link = self.target.home / name
            if (self.archive.home / name).exists() and not link.exists():
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((self.archive.home / name).absolute())

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Let this process and its children work in the scratch home."""
        before = dict(os.environ)
        os.environ |= {"ECG_HOME": str(self.scratch.absolute()), "ECG_STUDY": str(self._study_file.absolute())}
        for name in UNSET:
            os.environ.pop(name, None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _make(worker: RunWorker, record: Record, progress: Callable[[str], object]) -> None:
    """Make one output in a worker process."""
    worker.start(Run((dg.AssetKey.from_user_string(record.asset),), record.partition), QUIET)
    is_over, text = worker.receive()
    while not is_over:
        progress(text or "")
        is_over, text = worker.receive()
    if text:
        raise CannotReproduce(f"{output_name(record)} could not be made again:\n{text}")


def _compare(recorded: Record, made: Record) -> Comparison:
    shared = [name for name in recorded.files if name in made.files]
    return Comparison(
        recorded,
        made,
        equal=tuple(name for name in shared if recorded.files[name] == made.files[name]),
        altered=tuple(name for name in shared if recorded.files[name] != made.files[name]),
        missing=tuple(name for name in recorded.files if name not in made.files),
        added=tuple(name for name in made.files if name not in recorded.files),
    )


def _code(archive: Archive, record: Record) -> Iterator[Mismatch]:
    """Commit, uncommitted changes, lock file and package versions."""
    commit, is_dirty = git_state()
    if record.git_commit is None or commit != record.git_commit:
        yield Mismatch("commit", record.git_commit or "not recorded", commit or "unknown")
    if record.git_dirty or is_dirty:
        yield Mismatch("uncommitted changes", _yes(record.git_dirty), _yes(is_dirty))
    here = environment()
    if record.environment and archive.documents.path(record.environment).is_file():
        recorded: dict[str, Any] = archive.documents.read(record.environment)
    else:
        yield Mismatch("installed packages", "not recorded", "known")
        recorded = here
    if recorded["lock_sha256"] != here["lock_sha256"]:
        yield Mismatch("requirements.lock", str(recorded["lock_sha256"]), str(here["lock_sha256"]))
    listed = {one.field: one for one in changes(recorded["packages"], here["packages"])}
    versions = {name: package_versions().get(name) for name in record.packages}
    stated = {one.field: one for one in changes(record.packages, versions)}
    for name, one in {**listed, **stated}.items():
        yield Mismatch(f"package {name}", str(one.a), str(one.b))


def _machine(record: Record) -> Iterator[Mismatch]:
    """Threads, device and machine; `ECG_THREADS` and `ECG_DEVICE` set the first two."""
    execution = from_environment()
    here = hardware(execution.device, execution.threads)
    for name in CONDITIONS:
        if record.hardware.get(name) != here[name]:
            yield Mismatch(name, str(record.hardware.get(name)), str(here[name]))


def _yes(is_so: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[is_so]
