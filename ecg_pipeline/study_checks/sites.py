"""Checks of sites: each by itself, and those with the same files or the same patient numbers."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath
from posixpath import normpath

from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.format import every_file
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_sections import Site, Study


def folder(site: Site) -> PurePosixPath:
    """Normalised path of a site's folder, with environment variables not expanded."""
    return PurePosixPath(normpath(site.path))


def each_site(study: Study) -> Iterator[Problem]:
    """Check the keys of each site."""
    for name, site in study.sites.items():
        place = f"sites.{name}"
        if site.site_names and not FORMATS[site.format].names_site:
            with_names = ", ".join(name for name, each in FORMATS.items() if each.names_site)
            yield problem(
                f"files of format {site.format} have no site name, so all would be rejected: "
                f"use site_names only with {with_names}",
                f"{place}.site_names",
                f"{place}.format",
            )
        for table in site.label_tables:
            path = PurePosixPath(table)
            if path.is_absolute() or ".." in path.parts or str(path) != table or not path.name:
                sentence = f"`{table}` must be the relative path of a file in the site's folder, without `..`"
                yield problem(sentence, f"{place}.label_tables")
        if len(set(site.label_tables)) < len(site.label_tables):
            yield problem("a label table is listed twice", f"{place}.label_tables")
        if site.role == "external" and site.pretraining:
            yield problem(
                "an external site must not be used for pretraining",
                f"{place}.pretraining",
                f"{place}.role",
            )
    if study.trained_here and not study.pretraining_sites:
        yield problem("no site has `pretraining: true`: set it for at least one internal or transfer site", "sites")


def folders(study: Study) -> Iterator[Problem]:
    """Check that no two sites would read the same files."""
    for (first, one), (second, other) in combinations(study.sites.items(), 2):
        if (_would_read(one, other) or _would_read(other, one)) and not _are_distinguished(one, other):
            yield problem(
                f"sites {first} and {second} would read the same files: give each its own folder, or, for "
                "MUSE exports, different site_names",
                f"sites.{second}.path",
                f"sites.{first}.path",
                f"sites.{second}.site_names",
                f"sites.{first}.site_names",
            )


def mrn_systems(study: Study) -> Iterator[Problem]:
    """Check that a patient has the same pseudonym and the same split at all sites that share patient numbers."""
    sharing: dict[str, list[str]] = {}
    for name, site in study.sites.items():
        sharing.setdefault(site.mrn_system or name, []).append(name)
    for system, names in sharing.items():
        where = f"sites {', '.join(names)} share the mrn_system `{system}`"
        sites = [study.sites[name] for name in names]
        if len({site.patients for site in sites}) > 1:
            yield problem(
                f"{where}, but private, public and synthetic identifiers get different pseudonyms, so one patient "
                "would count as several: make `patients` equal, or give each site its own mrn_system",
                *(f"sites.{name}.{key}" for key in ("patients", "mrn_system") for name in names),
            )
        if study.split.kind == "ptb_xl_folds" and len({FORMATS[site.format].has_folds for site in sites}) > 1:
            yield problem(
                f"{where}, but only those of format {formats_with_folds()} have folds, so one patient could both train "
                "and test: give each site its own mrn_system, or use `kind: patient_hash`",
                "split.kind",
                *(f"sites.{name}.{key}" for key in ("mrn_system", "format") for name in names),
            )


def formats_with_folds() -> str:
    """Names of the formats whose ECGs belong to folds."""
    return ", ".join(name for name, each in FORMATS.items() if each.has_folds)


def _would_read(outer: Site, inner: Site) -> bool:
    """Whether a site would read the ECG files of another."""
    outer_files, inner_files = FORMATS[outer.format].is_ecg_file, FORMATS[inner.format].is_ecg_file
    return folder(inner).is_relative_to(folder(outer)) and outer_files in (every_file, inner_files)


def _are_distinguished(one: Site, other: Site) -> bool:
    """Whether no file can belong to both sites, because their site names differ."""
    both_named = bool(one.site_names and other.site_names)
    same_format = one.format == other.format and FORMATS[one.format].names_site
    return both_named and same_format and not set(one.site_names) & set(other.site_names)
