"""`ecg-pipeline prune`: remove old builds."""

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ecg_pipeline.commands.common import (
    HomeOption,
    JsonOption,
    StudyOption,
    console,
    counted,
    fail,
    open_archive,
    print_json,
)
from ecg_pipeline.provenance.lineage import place_name
from ecg_pipeline.provenance.prune import OldBuild, old_builds
from ecg_pipeline.provenance.prune import prune as remove
from ecg_pipeline.provenance.record import CUT


def prune(
    *,
    study: StudyOption = None,
    home: HomeOption = None,
    is_confirmed: Annotated[bool, typer.Option("--yes", help="Remove them without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove old builds: those that no newest output, held output or running materialisation needs. Records stay."""
    archive = open_archive(home, study)
    found = old_builds(archive)
    if not as_json:
        _print(found)
    if found and not as_json and not is_confirmed:
        typer.confirm("Remove them?", abort=True)
        is_confirmed = True
    removed = list[OldBuild]()
    if found and is_confirmed:
        try:
            with console.status("Removing old builds") as status:
                removed = remove(archive, found, lambda done, of: status.update(f"Removing old builds: {done} of {of}"))
        except OSError as error:
            fail(f"{error}\nRun the same command again to go on.")
    if as_json:
        print_json({"old": list(map(_content, found)), "removed": list(map(_content, removed))})
    elif removed:
        console.print(
            f"{counted(len(removed), 'build')} removed, {decimal(sum(old.freed_bytes for old in removed))} freed"
        )
        if len(removed) < len(found):
            console.print("The others are needed by now, or their partitions are being made.")


def _print(found: list[OldBuild]) -> None:
    if not found:
        console.print("No old build: everything on disk is needed.")
        return
    freed = decimal(sum(old.freed_bytes for old in found))
    table = Table(
        "output", "build", "frees", title=f"{counted(len(found), 'old build')}, {freed} to free", title_justify="left"
    )
    for old in found:
        name = place_name(old.asset, old.partition)
        unfinished = "" if old.is_finished else " (unfinished)"
        table.add_row(Text(name, overflow="fold"), f"{old.build[:CUT]}{unfinished}", decimal(old.freed_bytes))
    console.print(table)


def _content(old: OldBuild) -> dict[str, Any]:
    return {**asdict(old), "folder": str(old.folder)}
