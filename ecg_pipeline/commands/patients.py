"""How a command is told of a patient: by the hospital's own identifier, which stays in this process's memory."""

import sys
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from ecg_pipeline.commands.common import fail
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, known_id
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.trace import Subject, trace
from ecg_pipeline.study import Study, StudyError, active_study, drop_folder, load_study, site_key, study_file


@dataclass(frozen=True)
class KnownPatient:
    """A patient in one system of identifiers. sites: those that use it."""

    key: PseudonymKey
    pseudonym: str
    sites: tuple[str, ...] = ()


SiteOption = Annotated[
    str | None,
    typer.Option(
        "--site",
        metavar="SITE",
        help="The hospital whose identifier it is, where hospitals number patients differently.",
    ),
]


def asked_patient_id() -> str:
    """The hospital's own identifier of a patient: asked for without an echo, or the first line of a file or pipe.

    It is never an argument of a command, which a shell's history and the list of processes would show.
    """
    if sys.stdin.isatty():
        text = typer.prompt("The hospital's own identifier of the patient", hide_input=True, err=True)
    else:
        text = sys.stdin.readline()
    patient_id = known_id(text)
    if patient_id is None:
        fail("this is not the identifier of a patient: it is empty or masked")
    return patient_id


def named_study(study: str | None) -> Study:
    """The study that a command was given, by default the active one; an error ends the command."""
    try:
        return load_study(study_file(study)) if study else active_study()
    except StudyError as error:
        fail(str(error))


def site_keys(study: Study, archive: Archive) -> dict[str, PseudonymKey]:
    """The key of each site; a missing key ends the command."""
    try:
        return {site: site_key(study, site, archive.home) for site in study.sites}
    except ValueError as error:
        fail(str(error))


def known_patient(study: Study, archive: Archive, patient_id: str, *, site: str | None) -> KnownPatient:
    """The patient of an identifier. It may be that of two people if hospitals number their patients in several systems.

    site: a hospital whose identifier it is; without it, the only system of which an output holds such a patient.
    """
    if site is not None and site not in study.sites:
        fail(f"there is no site {site}; there are {', '.join(study.sites)}")
    systems: dict[KnownPatient, list[str]] = {}
    for name, key in site_keys(study, archive).items():
        pseudonym = key.pseudonym(drop_folder(study, name).mrn_system, patient_id)
        systems.setdefault(KnownPatient(key, pseudonym), []).append(name)
    known = [replace(who, sites=tuple(sites)) for who, sites in systems.items() if site is None or site in sites]
    if len(known) > 1:
        known = [who for who in known if trace(archive, Subject(patients=frozenset({who.pseudonym}))).uses]
    if len(known) != 1:
        which = "several of them have" if known else "no output holds"
        fail(
            f"the hospitals number their patients in {len(systems)} systems, and {which} this identifier: name the "
            "hospital that it is from with --site"
        )
    return known[0]
