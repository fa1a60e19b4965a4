"""The synthetic hospital system: sites must be ones that it writes, and tasks must ask for what it plants."""

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
"""Where the sites of a synthetic study are written."""

PLANTED_TABLES = frozenset({"echo_reports.csv", "diagnoses.csv"})
PLANTED_CODES = {MeasurementRule: frozenset({"lvef_percent"}), DiagnosisRule: frozenset({"I42.1"})}
"""The label tables of a synthetic hospital, and the codes in them."""


def synthetic_sites(study: Study) -> Iterator[Problem]:
    """Sites of the synthetic hospital system: they must be ones that it writes, read as it writes them."""
    for name, site in study.sites.items():
        path, place = folder(site), f"sites.{name}"
        if not path.is_relative_to(HOSPITAL_SYSTEM):
            if study.synthetic and site.patients == "synthetic":
                yield problem(
                    f"its patients are synthetic, but the study's hospital system is written to {HOSPITAL_SYSTEM}: "
                    "name a folder there",
                    f"{place}.path",
                    f"{place}.patients",
                )
            continue
        if study.synthetic is None:
            yield problem(
                "nobody writes this folder: add `synthetic: {}` to the study, or name another",
                f"{place}.path",
                "synthetic",
            )
        elif path.parent != HOSPITAL_SYSTEM or path.name not in SITES:
            yield problem(
                f"the hospital system has no site `{path.relative_to(HOSPITAL_SYSTEM)}`; it has {', '.join(SITES)}",
                f"{place}.path",
            )
        else:
            yield from _as_written(place, site, path.name)


def _as_written(place: str, site: Site, written: str) -> Iterator[Problem]:
    """Whether a site is read as one of the synthetic hospital system is written."""
    exporter = EXPORTERS.get(written)
    form = "muse_xml" if exporter else "ptb_xl"
    if site.format != form:
        sentence = f"the hospital system writes {written} as {form}, not as {site.format}"
        yield problem(sentence, f"{place}.format", f"{place}.path")
    if exporter and site.site_names and exporter.site_name not in site.site_names:
        yield problem(
            f"the exports of {written} say `{exporter.site_name}`, so every one would be rejected: add that name",
            f"{place}.site_names",
            f"{place}.path",
        )
    known = PLANTED_TABLES if exporter else frozenset()
    if unknown := [table for table in site.label_tables if table not in known]:
        tables = ", ".join(sorted(known)) or "none"
        sentence = f"the hospital system writes no {', '.join(unknown)} for {written}; its label tables: {tables}"
        yield problem(sentence, f"{place}.label_tables", f"{place}.path")


def unplanted(site: Site, rule: MeasurementRule | DiagnosisRule | StatementRule) -> str | None:
    """The codes of a rule, where the site is one of the synthetic hospital system and it knows none of them."""
    if not folder(site).is_relative_to(HOSPITAL_SYSTEM):
        return None
    if isinstance(rule, StatementRule):
        return None if SCP_DESCRIPTIONS.keys() & set(rule.positive) else ", ".join(rule.positive)
    return None if rule.code in PLANTED_CODES[type(rule)] else rule.code


def most_training_patients(study: Study, task: TaskRecipe) -> int | None:
    """How many patients of the synthetic hospital system train a task at most; None where others take part."""
    folders = [folder(study.sites[site]) for site in task.sites if site in study.sites]
    if study.synthetic is None or not all(path.parent == HOSPITAL_SYSTEM for path in folders):
        return None
    share = sum(share for site, share in zip(SITES, SITE_SHARES, strict=True) if HOSPITAL_SYSTEM / site in folders)
    return ceil(share * study.synthetic.patients)
