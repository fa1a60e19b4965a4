"""`ecg-pipeline withdraw`: takes a patient out, and afterwards erases what old outputs hold of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ecg_pipeline.commands.common import (
    JsonOption,
    StudyOption,
    activate_study,
    console,
    counted,
    fail,
    open_archive,
    print_json,
)
from ecg_pipeline.commands.patients import KnownPatient, SiteOption, asked_patient_id, known_patient
from ecg_pipeline.commands.trace import print_trace
from ecg_pipeline.ingest.withdrawals import Register, register_entry
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.lineage import place_name
from ecg_pipeline.provenance.record import Record
from ecg_pipeline.provenance.trace import LABELLED, REJECTED, STORED, Subject, Trace, trace
from ecg_pipeline.provenance.withdraw import (
    TOMBSTONE,
    enter_withdrawal,
    erase_in_files,
    files_with,
    old_records,
    purge,
)
from ecg_pipeline.storage.databases import DatabaseInUse, databases_below, erase_words
from ecg_pipeline.study import Study, drop_folder

READ = (STORED, REJECTED, LABELLED)
"""Uses at the door of a site."""


def withdraw_command(
    *,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient", help="A patient by the hospital's own identifier, which is asked for or read from stdin."
        ),
    ] = False,
    erase: Annotated[
        bool, typer.Option("--erase", help="Afterwards: delete what old outputs and databases hold of the patient.")
    ] = False,
    site: SiteOption = None,
    study: StudyOption = None,
    as_json: JsonOption = False,
) -> None:
    """Withdraw a patient: their files are not used any more, and what was made of them is made again.

    Exact retraining is the only unlearning: the next `ecg-pipeline materialize` replaces each model that saw them.
    """
    if not patient:
        fail("say --patient: the identifier is asked for then, or read from stdin")
    named = activate_study(study)
    archive = open_archive(None, study)
    who = known_patient(named, archive, asked_patient_id(), site=site)
    found = trace(archive, Subject(patients=frozenset({who.pseudonym})), by_shard=False)
    if found.unreadable:
        fail("\n".join((*found.unreadable, "these tables are recorded, but cannot be read, and may hold the patient")))
    if erase:
        _erase(named, archive, who, found, as_json=as_json)
    else:
        _withdraw(archive, who, found, as_json=as_json)


def _withdraw(archive: Archive, who: KnownPatient, found: Trace, *, as_json: bool) -> None:
    from ecg_pipeline.orchestration.instance import open_instance
    from ecg_pipeline.orchestration.withdrawn import report_failed

    read_at = {use.partition for use in found.uses if use.how in READ} & set(who.sites)
    entered = Register(archive.home).enter(who.key, who.pseudonym, sites=[site for site in read_at if site])
    flagged = enter_withdrawal(archive, found, withdrawal=entered.withdrawal)
    with open_instance(archive.home) as instance:
        report_failed(instance, flagged, withdrawal=entered.withdrawal)
    if as_json:
        affected = [{"asset": asset, "partition": partition} for asset, partition in sorted(found.newest(), key=str)]
        print_json({"withdrawal": entered.withdrawal, "sites": list(entered.sites), "affected": affected})
        return
    print_trace(found)
    console.print(f"Withdrawal {entered.withdrawal} is in the register {Register(archive.home).path}", soft_wrap=True)
    if found.newest():
        console.print("Run `ecg-pipeline materialize` to make these outputs again without them, then")
        console.print("`ecg-pipeline withdraw --patient --erase` to delete what old outputs hold.")
    else:
        console.print("No newest output holds them. Files of theirs that come later are not used.")


def _erase(study: Study, archive: Archive, who: KnownPatient, found: Trace, *, as_json: bool) -> None:
    entry = register_entry(who.key, who.pseudonym)
    withdrawal = next((one for one in Register(archive.home).withdrawals() if one.entry == entry), None)
    if withdrawal is None:
        fail("this patient did not withdraw: run `ecg-pipeline withdraw --patient` first")
    if newest := sorted(found.newest(), key=str):
        names = ", ".join(place_name(*place) for place in newest)
        fail(
            "nothing was erased, because newest outputs still hold them: run `ecg-pipeline materialize` first. "
            f"They are {names}"
        )
    # The builds go last: what to look for elsewhere is known from their tables.
    words = found.subject.values()
    not_covered = list(_erase_elsewhere(archive, old_records(archive, found), words))
    purged = purge(archive, found, withdrawal=withdrawal.withdrawal)
    left = [str(path) for path in files_with(_outside_outputs(study, archive.home), words)]
    facts: dict[str, Any] = {"withdrawal": withdrawal.withdrawal, "purged": len(purged), "left_in": left}
    if as_json:
        print_json({**facts, "not_covered": not_covered})
    else:
        console.print(f"{counted(len(purged), 'old build')} purged. The records stay, and the ledger says why.")
        for sentence in not_covered:
            console.print(f"Not covered: {sentence}", soft_wrap=True, style="yellow")
        for path in left:
            console.print(f"Still in {path}", soft_wrap=True, style="red")
    if left:
        raise typer.Exit(1)


def _erase_elsewhere(archive: Archive, old: list[Record], words: tuple[str, ...]) -> Iterator[str]:
    """Erase what MLflow and the databases hold; yield a sentence for each thing that this cannot reach."""
    from ecg_pipeline.orchestration.instance import instance_home, other_storage
    from ecg_pipeline.tracking import purge_runs, tracking_uri

    runs = {record.mlflow_run_id for record in old if record.mlflow_run_id}
    models = {record.mlflow_model_id for record in old if record.mlflow_model_id}
    yield from purge_runs(archive.home, runs, models)
    dagster = instance_home(archive.home)
    if storage := other_storage(archive.home):
        yield f"Dagster's events are in {storage}: delete there what the hospital's rules demand, and vacuum it"
    uri = tracking_uri(archive.home)
    if not uri.startswith("sqlite:"):
        yield f"MLflow's database is at {uri.split('@')[-1]}: vacuum it there"
    folders = [dagster, archive.home / "mlflow"]
    databases = {path for folder in folders if folder.is_dir() for path in databases_below(folder)}
    if uri.startswith("sqlite:///") and Path(uri.removeprefix("sqlite:///")).is_file():
        databases.add(Path(uri.removeprefix("sqlite:///")))
    try:
        for path in sorted(databases):
            erase_words(path, words, TOMBSTONE)
    except DatabaseInUse as error:
        fail(f"{error}, and run this again")
    erase_in_files([folder for folder in folders if folder.is_dir()], words, databases=databases)
    yield "backups and snapshots of the disk, copies of models elsewhere, and the hospital's own files"


def _outside_outputs(study: Study, home: Path) -> Iterator[Path]:
    """Folders of the home without the outputs, which are searched by their tables, and without drop folders."""
    drops = [drop_folder(study, site).path.resolve() for site in study.sites]
    for folder in sorted(home.iterdir()):
        is_dropped = any(drop.is_relative_to(folder.resolve()) for drop in drops)
        if folder.is_dir() and folder.name != "assets" and not is_dropped:
            yield folder
