"""`ecg-pipeline trace`: where a patient, an ECG or a file was used."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_pipeline.commands.common import HomeOption, JsonOption, StudyOption, console, fail, open_archive, print_json
from ecg_pipeline.commands.patients import SiteOption, asked_patient_id, known_patient, named_study
from ecg_pipeline.ingest.drop_folder import file_name
from ecg_pipeline.ingest.reading import ecg_id_of, source_of
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.handout import hand_out
from ecg_pipeline.provenance.lineage import place_name
from ecg_pipeline.provenance.record import CUT
from ecg_pipeline.provenance.trace import MadeFrom, Subject, Trace, Use, trace
from ecg_pipeline.storage.files import sha256_file
from ecg_pipeline.study import StudyError, drop_folder, site_key


def trace_command(
    *,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient", help="A patient by the hospital's own identifier, which is asked for or read from stdin."
        ),
    ] = False,
    pseudonym: Annotated[
        str | None, typer.Option("--pseudonym", metavar="PSEUDONYM", help="A patient by pseudonym.")
    ] = None,
    ecg: Annotated[str | None, typer.Option("--ecg", metavar="ECG_ID", help="An ECG by its ecg_id.")] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="FILE", help="A file of a drop folder, or a copy of one, by its content."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write all that is held of them to a new folder.")
    ] = None,
    site: SiteOption = None,
    study: StudyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List every output and model that used a patient, an ECG or a file, and how."""
    if sum((patient, pseudonym is not None, ecg is not None, file is not None)) != 1:
        fail("name one of --patient, --pseudonym, --ecg and --file")
    archive = open_archive(home, study)
    if out is not None and (out.exists() or out.absolute().is_relative_to(archive.home)):
        fail(f"{out}: name a new folder outside the study's home")
    if patient:
        who = known_patient(named_study(study), archive, asked_patient_id(), site=site)
        subject = Subject(patients=frozenset({who.pseudonym}))
    elif pseudonym is not None:
        subject = Subject(patients=frozenset({pseudonym}))
    elif ecg is not None:
        subject = Subject(ecg_ids=frozenset({ecg}))
    else:
        subject = _file_subject(archive, study, Path(file or ""))
    found = trace(archive, subject)
    if out is not None:
        hand_out(archive, found, out)
    if as_json:
        print_json(as_facts(found))
        return
    print_trace(found)
    if out is not None:
        console.print(f"All that is held is in {out}", soft_wrap=True, highlight=False)


def as_facts(found: Trace) -> dict[str, Any]:
    """A trace as JSON."""
    subject = found.subject
    return {
        "patients": sorted(subject.patients),
        "ecgs": sorted(subject.ecg_ids),
        "waveforms": sorted(subject.waveforms),
        "uses": [asdict(use) for use in found.uses],
        "made_from": [asdict(made) for made in found.made_from],
        "unreadable": list(found.unreadable),
    }


def print_trace(found: Trace) -> None:
    """Print a trace, one line an output."""
    if not found.uses:
        console.print("No stored output holds them.")
    else:
        console.print("[bold]Outputs that hold them[/bold]  (ECGs, how, and of which split or reason; build)")
    for uses in _by_build(found.uses):
        first, facts = uses[0], {name: count for use in uses for name, count in {**use.splits, **use.reasons}.items()}
        words = [f"{max(use.ecgs for use in uses):,}", *dict.fromkeys(use.how for use in uses)]
        words += [f"{count:,} {name}" for name, count in facts.items()]
        name = place_name(first.asset, first.partition)
        _print_line(f"  {name}: {', '.join(words)}; {first.build[:CUT]}{'' if first.is_newest else ', old'}")
    if found.made_from:
        console.print("\n[bold]Made from outputs that saw them[/bold]")
    for asset, rows in _by_asset(found.made_from).items():
        of = sorted({name.split("@")[0] for row in rows for name in row.of})
        partitions = sorted({f"{row.partition or ''}{'' if row.is_newest else ' (old)'}" for row in rows} - {""})
        _print_line(f"  {' '.join((asset, ', '.join(partitions))).strip()}: from {', '.join(of)}")
    for path in found.unreadable:
        console.print(f"{path} is recorded, but cannot be read", style="red", soft_wrap=True)


def _print_line(line: str) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _by_build(uses: Iterable[Use]) -> list[list[Use]]:
    """The uses by one build each: several tables of a build may hold the subject."""
    by_build = defaultdict[tuple[str, str | None, str], list[Use]](list)
    for use in uses:
        by_build[use.asset, use.partition, use.build].append(use)
    return list(by_build.values())


def _by_asset(rows: Iterable[MadeFrom]) -> dict[str, list[MadeFrom]]:
    by_asset = defaultdict[str, list[MadeFrom]](list)
    for row in rows:
        by_asset[row.asset].append(row)
    return by_asset


def _file_subject(archive: Archive, study: str | None, file: Path) -> Subject:
    """A file by its content, and if it is in a drop folder of the study, by its name there, too."""
    contents = frozenset({sha256_file(file)}) if file.is_file() else frozenset[str]()
    named = named_study(study)
    for site in named.sites:
        try:
            drop = drop_folder(named, site)
        except StudyError:
            continue
        if (name := file_name(drop, file)) is not None:
            try:
                key = site_key(named, site, archive.home)
            except ValueError as error:
                fail(str(error))
            names = drop.ecg_names(name)
            return Subject(
                ecg_ids=frozenset(ecg_id_of(drop, key, one) for one in names),
                sources=frozenset((site, source_of(drop, key, one)) for one in names),
                contents=contents,
            )
    if not contents:
        fail(f"{file}: there is no such file, and no drop folder of the study that it would be in")
    return Subject(contents=contents)
