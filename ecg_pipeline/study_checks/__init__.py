"""Checks that the sections of a study are consistent, so that errors are found on loading and not hours later.

Each check yields all problems that it finds. Checks use the study file only and do not read the folders of its sites.
"""

from collections.abc import Callable, Iterator

from ecg_pipeline.study_checks.hospital_system import synthetic_sites
from ecg_pipeline.study_checks.networks import arms, finetuning, images, models, pretraining, waveforms
from ecg_pipeline.study_checks.problem import Problem
from ecg_pipeline.study_checks.sites import each_site, folders, mrn_systems
from ecg_pipeline.study_checks.tasks import comparisons, fractions, names, prompts, split, statements, tasks, texts
from ecg_pipeline.study_sections import Study

CHECKS: tuple[Callable[[Study], Iterator[Problem]], ...] = (
    names,
    each_site,
    folders,
    mrn_systems,
    synthetic_sites,
    waveforms,
    images,
    arms,
    models,
    pretraining,
    finetuning,
    split,
    statements,
    texts,
    tasks,
    prompts,
    fractions,
    comparisons,
)


def problems(study: Study) -> list[Problem]:
    """All problems of a study; empty if it can be run."""
    return [found for check in CHECKS for found in check(study)]
