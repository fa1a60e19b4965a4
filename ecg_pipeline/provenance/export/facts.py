"""The facts that exports state about an output: one table, by its records and the files of its home alone.

No fact names a patient, an ECG or a file of a hospital: of tables of patients there are counts.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ecg_pipeline.provenance.archive import UNPARTITIONED
from ecg_pipeline.provenance.record import CheckOutcome


@dataclass(frozen=True)
class FileFact:
    """A file of an output: its path in the output, and its content. size_bytes: null in records of version 1."""

    path: str
    sha256: str
    size_bytes: int | None


@dataclass(frozen=True)
class InputFact:
    """An output, or files of a hospital, that an output was made of. record: digest of its record; null for files."""

    name: str
    asset: str
    partition: str | None
    data_version: str
    record: str | None

    @property
    def uri(self) -> str:
        """What names the input in every format."""
        if self.record:
            return record_uri(self.record)
        place = quote(f"{self.asset}/{self.partition or UNPARTITIONED}/{self.data_version}")
        return f"urn:ecg-pipeline:files:{place}"


@dataclass(frozen=True)
class CountFact:
    """ECGs and their patients in a table. split, label: null where the table has no such column."""

    output: str
    table: str
    site: str
    split: str | None
    label: int | None
    ecgs: int
    patients: int


@dataclass(frozen=True)
class RejectFact:
    """Files of a site that were read and not used."""

    site: str
    reason: str
    files: int


@dataclass(frozen=True)
class MetricFact:
    """A figure of an evaluation at one site, with its 95 % interval where it has one, and of how many it is."""

    evaluation: str
    site: str | None
    name: str
    value: float
    low: float | None
    high: float | None
    ecgs: int
    patients: int
    positives: int


@dataclass(frozen=True)
class OutputFact:
    """One output. packages: of its environment, or those in its record where that is gone.

    settings: what of the study it depends on. model: the network's settings; start: what `start_words` says of its
    weights; both empty if it is no model.
    """

    name: str
    asset: str
    partition: str | None
    build: str
    data_version: str
    record: str
    inputs: tuple[InputFact, ...]
    files: tuple[FileFact, ...]
    settings: dict[str, Any]
    model: dict[str, Any]
    start: dict[str, str]
    seeds: dict[str, int]
    checks: tuple[CheckOutcome, ...]
    git_commit: str | None
    git_dirty: bool | None
    version: str
    python: str
    packages: dict[str, str]
    lock_sha256: str | None
    hardware: dict[str, Any]
    user: str | None
    dagster_run_id: str | None
    mlflow_run_id: str | None
    started_at: str
    ended_at: str
    seconds: float
    peak_memory_bytes: int | None

    @property
    def uri(self) -> str:
        """What names the output in every format."""
        return record_uri(self.record)

    @property
    def size_bytes(self) -> int:
        """Size of the output's files."""
        return sum(file.size_bytes or 0 for file in self.files)


@dataclass(frozen=True)
class SiteFact:
    """A site of the study. patients: `synthetic`, `public` or `private`."""

    name: str
    title: str
    role: str
    patients: str


@dataclass(frozen=True)
class StudyFact:
    """The study. text: digest of its file's content; title, sites and task are empty where that is gone."""

    name: str
    title: str
    fingerprint: str
    text: str | None
    sites: tuple[SiteFact, ...]
    task: str

    @property
    def is_synthetic(self) -> bool:
        """Whether every patient is synthetic."""
        return bool(self.sites) and all(site.patients == "synthetic" for site in self.sites)


@dataclass(frozen=True)
class Facts:
    """All that exports state.

    upstream: what the output was made of, upstream before downstream. evaluations: the newest ones that read it.
    missing: inputs whose record is gone. counts: of the tables of all of these outputs.
    """

    study: StudyFact
    output: OutputFact
    upstream: tuple[OutputFact, ...]
    evaluations: tuple[OutputFact, ...]
    sources: tuple[InputFact, ...]
    missing: tuple[InputFact, ...]
    counts: tuple[CountFact, ...]
    rejects: tuple[RejectFact, ...]
    metrics: tuple[MetricFact, ...]

    @property
    def outputs(self) -> tuple[OutputFact, ...]:
        """The output and all it was made of, upstream before downstream."""
        return (*self.upstream, self.output)

    @property
    def described(self) -> tuple[OutputFact, ...]:
        """`outputs`, and the evaluations, each once."""
        return tuple({output.record: output for output in (*self.outputs, *self.evaluations)}.values())

    @property
    def named(self) -> tuple[InputFact, ...]:
        """Inputs that are not among `described`: sources, those whose record is gone, what evaluations read besides."""
        known = {output.uri for output in self.described}
        return tuple({of.uri: of for one in self.described for of in one.inputs if of.uri not in known}.values())

    def data_of(self, output: OutputFact) -> tuple[OutputFact, ...]:
        """The outputs, upstream of one of `outputs` or itself, whose tables hold ECGs of patients. Models are none."""
        reached, counted = {output.uri}, {count.output for count in self.counts}
        for one in reversed(self.outputs):
            if one.uri in reached:
                reached |= {entry.uri for entry in one.inputs}
        return tuple(of for of in self.outputs if of.uri in reached and of.name in counted and not of.model)


def record_uri(digest: str) -> str:
    """The name of an output by the digest of its record, which covers all it was made of."""
    return f"urn:ecg-pipeline:record:{digest}"


def package_url(name: str, version: str) -> str:
    """The name of a Python package in bills of materials."""
    return f"pkg:pypi/{name.lower().replace('_', '-')}@{quote(version)}"


def dimensions(partition: str | None, sites: tuple[str, ...]) -> dict[str, str]:
    """What a partition is of: a site, a fraction of the training patients, or both."""
    parts = partition.split("|") if partition else []
    return {"fraction" if part not in sites and _is_number(part) else "site": part for part in parts}


def site_names(facts: Facts) -> tuple[str, ...]:
    """The names of the study's sites."""
    return tuple(site.name for site in facts.study.sites)


def zulu(time: str) -> str:
    """A time of a record as RFC 3339 with Z, which every format reads."""
    return time.replace("+00:00", "Z")


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
