"""Checks of synthetic studies: their sites and labels must be ones that the synthetic hospital system writes."""

from collections.abc import Iterator
from math import ceil
from pathlib import PurePosixPath

from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule, TaskRecipe
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_checks.sites import folder
from ecg_pipeline.study_sections import Site, Study
from ecg_pipeline.synthetic.drop_folders import EXPORTERS, SCP_DESCRIPTIONS
from ecg_pipeline.synthetic.hospital import SITE_SHARES, SITES

HOSPITAL_SYSTEM = PurePosixPath("${ECG_HOME}/hospital_system")
"""Folder that the sites of a synthetic study are written to."""

SYNTHETIC_TABLES = frozenset({"echo_reports.csv", "diagnoses.csv"})
SYNTHETIC_CODES = {MeasurementRule: frozenset({"lvef_percent"}), DiagnosisRule: frozenset({"I42.1"})}
"""The label tables of a synthetic hospital, and the codes in them, by kind of rule."""


def synthetic_sites(study: Study) -> Iterator[Problem]:
    """Check that sites in the hospital system's folder are ones that it writes, with the same format and tables."""
    for name, site in study.sites.items():
        path, place = folder(site), f"sites.{name}"
        if not path.is_relative_to(HOSPITAL_SYSTEM):
            if study.synthetic and site.patients == "synthetic":
                yield problem(
                    f"its patients are synthetic, but the study's hospital system is written to {HOSPITAL_SYSTEM}: "
                    "use a folder in it",
                    f"{place}.path",
                    f"{place}.patients",
                )
            continue
        if study.synthetic is None:
            yield problem(
                "this folder is only written by synthetic studies: add `synthetic: {}`, or use another folder",
                f"{place}.path",
                "synthetic",
            )
        elif path.parent != HOSPITAL_SYSTEM or path.name not in SITES:
            yield problem(
                f"the hospital system has no site `{path.relative_to(HOSPITAL_SYSTEM)}`; it has {', '.join(SITES)}",
                f"{place}.path",
            )
        else:
            yield from _check_site(place, site, path.name)


def _check_site(place: str, site: Site, written: str) -> Iterator[Problem]:
    """Check that a site has the format, site name and label tables that are written for it."""
    exporter = EXPORTERS.get(written)
    format_name = "muse_xml" if exporter else "ptb_xl"
    if site.format != format_name:
        sentence = f"the hospital system writes {written} as {format_name}, not as {site.format}"
        yield problem(sentence, f"{place}.format", f"{place}.path")
    if exporter and site.site_names and exporter.site_name not in site.site_names:
        yield problem(
            f"the exports of {written} have the site name `{exporter.site_name}`, so all would be rejected: add it",
            f"{place}.site_names",
            f"{place}.path",
        )
    known = SYNTHETIC_TABLES if exporter else frozenset()
    if unknown := [table for table in site.label_tables if table not in known]:
        tables = ", ".join(sorted(known)) or "none"
        sentence = f"the hospital system writes no {', '.join(unknown)} for {written}; its label tables: {tables}"
        yield problem(sentence, f"{place}.label_tables", f"{place}.path")


def missing_codes(site: Site, rule: MeasurementRule | DiagnosisRule | StatementRule) -> str | None:
    """The codes of a rule if the site is synthetic and its labels have none of them, else None."""
    if not folder(site).is_relative_to(HOSPITAL_SYSTEM):
        return None
    if isinstance(rule, StatementRule):
        is_stated = rule.system != "scp" or SCP_DESCRIPTIONS.keys() & set(rule.positive)
        return None if is_stated else ", ".join(rule.positive)
    return None if rule.code in SYNTHETIC_CODES[type(rule)] else rule.code


def most_training_patients(study: Study, task: TaskRecipe) -> int | None:
    """Upper bound of a task's number of training patients; None if not all of its sites are synthetic."""
    folders = [folder(study.sites[site]) for site in task.sites if site in study.sites]
    if study.synthetic is None or not all(path.parent == HOSPITAL_SYSTEM for path in folders):
        return None
    share = sum(share for site, share in zip(SITES, SITE_SHARES, strict=True) if HOSPITAL_SYSTEM / site in folders)
    return ceil(share * study.synthetic.patients)
