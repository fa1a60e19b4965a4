"""Participants: ECGs and patients by site and split, and the flow from files to the ECGs used."""

from collections.abc import Mapping
from dataclasses import dataclass

from ecg_pipeline.cohorts.splits import EXTERNAL, SPLITS, TEST
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.reporting.results import TaskResults
from ecg_pipeline.reporting.words import EXCLUSIONS, plain

COUNTED = ("_ecgs", "_patients", "_positives")
"""Endings of the steps of `Cohort.flow` that count a split."""


@dataclass(frozen=True)
class SplitCounts:
    """ECGs, patients and positive ECGs of one split of one site."""

    ecgs: int
    patients: int
    positives: int


@dataclass(frozen=True)
class StudiedSite:
    """One row of the table of sites. splits: in the order of `SPLITS`."""

    name: str
    title: str
    role: str
    splits: tuple[SplitCounts, ...]


@dataclass(frozen=True)
class Flow:
    """From files to ECGs, one number per site in each row.

    rejects, exclusions: by reason in words. never: reasons for which no file was rejected. not_tested: test ECGs that a
    model's view lacks, so that no model is tested on them.
    """

    sites: list[str]
    files: list[int]
    rejects: Mapping[str, list[int]]
    never: list[str]
    stored: list[int]
    exclusions: Mapping[str, list[int]]
    used: list[int]
    not_tested: list[int]


def studied_sites(task: TaskResults) -> list[StudiedSite]:
    """The sites of a task with the counts of each split."""
    return [
        StudiedSite(
            site,
            task.titles[site],
            task.roles[site],
            tuple(SplitCounts(*(steps[f"{split}{what}"] for what in COUNTED)) for split in SPLITS),
        )
        for site, steps in task.flow.items()
    ]


def participant_flow(task: TaskResults) -> Flow:
    """Files, rejects and exclusions of a task; each is counted at the first step that leaves it out."""
    sites = list(task.flow)
    met = [reason.value for reason in RejectReason if any(task.rejects[site].get(reason.value) for site in sites)]
    steps = list(dict.fromkeys(step for counts in task.flow.values() for step in counts))
    exclusions = [step for step in steps if step != "ecgs_in_store" and not step.endswith(COUNTED)]
    stored = {site: task.flow[site]["ecgs_in_store"] for site in sites}
    left_out = {site: sum(task.flow[site][step] for step in exclusions) for site in sites}
    return Flow(
        sites=sites,
        files=[stored[site] + sum(task.rejects[site].values()) for site in sites],
        rejects={plain(reason): [task.rejects[site].get(reason, 0) for site in sites] for reason in met},
        never=[plain(reason.value) for reason in RejectReason if reason.value not in met],
        stored=list(stored.values()),
        exclusions={
            EXCLUSIONS.get(step, plain(step)): [task.flow[site][step] for site in sites] for step in exclusions
        },
        used=[stored[site] - left_out[site] for site in sites],
        not_tested=[_held_out(task, site) - _tested(task, site) for site in sites],
    )


def _held_out(task: TaskResults, site: str) -> int:
    """ECGs of the test patients of a site, or all of an external one."""
    return sum(task.flow[site][f"{split}_ecgs"] for split in (TEST, EXTERNAL))


def _tested(task: TaskResults, site: str) -> int:
    """ECGs that the models were tested on at a site: the same for all of them."""
    return max(one.metrics()["ecgs"] for (_, _, where), one in task.evaluations.items() if where == site)
