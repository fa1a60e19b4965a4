"""Sites: what each says of itself, and those that read the same files or share a numbering of patients."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import PurePosixPath
from posixpath import normpath

from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.format import every_file
from ecg_pipeline.study_checks.problem import Problem, problem
from ecg_pipeline.study_sections import Site, Study


def folder(site: Site) -> PurePosixPath:
    """Where a site's files lie, as far as the study tells: environment variables stand for themselves."""
    return PurePosixPath(normpath(site.path))


def each_site(study: Study) -> Iterator[Problem]:
    """What each site says of itself."""
    for name, site in study.sites.items():
        place = f"sites.{name}"
        if site.site_names and not FORMATS[site.format].names_site:
            naming = ", ".join(name for name, each in FORMATS.items() if each.names_site)
            yield problem(
                f"files of format {site.format} name no site, so every one would be rejected: "
                f"site_names belong to {naming}",
                f"{place}.site_names",
                f"{place}.format",
            )
        for table in site.label_tables:
            path = PurePosixPath(table)
            if path.is_absolute() or ".." in path.parts or str(path) != table or not path.name:
                sentence = f"`{table}` must be the plain path of a file inside the site's folder"
                yield problem(sentence, f"{place}.label_tables")
        if len(set(site.label_tables)) < len(site.label_tables):
            yield problem("a label table is named twice", f"{place}.label_tables")
        if site.role == "external" and site.pretraining:
            yield problem(
                "an external site is not pretrained on, or it would not be external",
                f"{place}.pretraining",
                f"{place}.role",
            )
    if not study.pretraining_sites:
        yield problem("no site has `pretraining: true`: name at least one internal or transfer site", "sites")


def folders(study: Study) -> Iterator[Problem]:
    """Sites that would read the same files."""
    for (first, one), (second, other) in combinations(study.sites.items(), 2):
        if (_reads(one, other) or _reads(other, one)) and not _are_distinguished(one, other):
            yield problem(
                f"sites {first} and {second} would read the same files: give each its own folder, or, of MUSE "
                "exports, site_names that have none in common",
                f"sites.{second}.path",
                f"sites.{first}.path",
                f"sites.{second}.site_names",
                f"sites.{first}.site_names",
            )


def numberings(study: Study) -> Iterator[Problem]:
    """Sites that share a numbering of patients: one patient must have one pseudonym and one part at all of them."""
    sharing: dict[str, list[str]] = {}
    for name, site in study.sites.items():
        sharing.setdefault(site.mrn_system or name, []).append(name)
    for system, names in sharing.items():
        where = f"sites {', '.join(names)} share the numbering of patients `{system}`"
        sites = [study.sites[name] for name in names]
        if len({site.patients for site in sites}) > 1:
            yield problem(
                f"{where}, but private, public and synthetic identifiers get different pseudonyms, so one patient "
                "would be several: make `patients` equal, or give each its own mrn_system",
                *(f"sites.{name}.{key}" for key in ("patients", "mrn_system") for name in names),
            )
        if study.split.kind == "ptb_xl_folds" and len({FORMATS[site.format].has_folds for site in sites}) > 1:
            yield problem(
                f"{where}, but only those of format {with_folds()} have folds, so one patient could both train and "
                "test: give each its own mrn_system, or split by patient_hash",
                "split.kind",
                *(f"sites.{name}.{key}" for key in ("mrn_system", "format") for name in names),
            )


def with_folds() -> str:
    """Names of the formats whose ECGs belong to folds."""
    return ", ".join(name for name, each in FORMATS.items() if each.has_folds)


def _reads(outer: Site, inner: Site) -> bool:
    """Whether a site would read the ECG files of another."""
    outer_files, inner_files = FORMATS[outer.format].is_ecg_file, FORMATS[inner.format].is_ecg_file
    return folder(inner).is_relative_to(folder(outer)) and outer_files in (every_file, inner_files)


def _are_distinguished(one: Site, other: Site) -> bool:
    """Whether no file can belong to both sites, wherever it lies."""
    both_named = bool(one.site_names and other.site_names)
    same_format = one.format == other.format and FORMATS[one.format].names_site
    return both_named and same_format and not set(one.site_names) & set(other.site_names)
