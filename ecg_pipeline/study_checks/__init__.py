"""Whether the sections of a study agree: what would fail hours later, or train on nothing, is found when it is loaded.

Each check gives every problem that it finds. It knows the file alone: what is in the folders that a study names is for
the stages that read them.
"""

from collections.abc import Callable, Iterator

from ecg_pipeline.study_checks.hospital_system import synthetic_sites
from ecg_pipeline.study_checks.networks import images, models, pretraining, waveforms
from ecg_pipeline.study_checks.problem import Problem
from ecg_pipeline.study_checks.sites import each_site, folders, numberings
from ecg_pipeline.study_checks.tasks import fractions, names, split, tasks
from ecg_pipeline.study_sections import Study

CHECKS: tuple[Callable[[Study], Iterator[Problem]], ...] = (
    names,
    each_site,
    folders,
    numberings,
    synthetic_sites,
    waveforms,
    images,
    models,
    pretraining,
    split,
    tasks,
    fractions,
)


def problems(study: Study) -> list[Problem]:
    """Everything in a study that does not agree; nothing for a study that can be run."""
    return [found for check in CHECKS for found in check(study)]
