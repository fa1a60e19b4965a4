"""`ecg-pipeline hold`: keep an output, whatever is made later."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from ecg_pipeline.commands.common import (
    OUTPUT,
    HomeOption,
    JsonOption,
    StudyOption,
    console,
    fail,
    open_archive,
    output_named,
    print_json,
)
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.holds import Holds
from ecg_pipeline.provenance.lineage import lineage, output_name, place_name
from ecg_pipeline.provenance.record import CUT, Record

MODEL = typer.Argument(metavar="MODEL", help=f"{OUTPUT} By default the holds are listed.")


def hold(
    model: Annotated[str | None, MODEL] = None,
    *,
    is_released: Annotated[bool, typer.Option("--release", help="End the hold of MODEL.")] = False,
    study: StudyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep an output, and everything upstream of it, from being pruned; or list what is held."""
    archive = open_archive(home, study)
    holds = Holds(archive)
    if model is None and is_released:
        fail("--release needs the output whose hold is to end")
    if model is not None:
        record = output_named(archive, model)
        _release(holds, record) if is_released else _add(archive, holds, record)
    if as_json:
        print_json([asdict(held) for held in holds.all()])
        return
    table = Table("output", "build", "record", "by", "since")
    for held in holds.all():
        name = place_name(held.asset, held.partition)
        table.add_row(
            Text(name, overflow="fold"),
            held.build[:CUT],
            held.record[:CUT],
            held.user,
            Text(held.since, overflow="fold"),
        )
    console.print(table if table.row_count else "Nothing is held.")


def _add(archive: Archive, holds: Holds, record: Record) -> None:
    """Hold an output; an error if it, or something upstream of it, is gone already."""
    is_new = holds.add(record)
    found = lineage(archive, record)
    gone = [output_name(one) for one in found.records if one.files and not archive.folder(one).is_dir()]
    gone += map(output_name, found.missing)
    if gone:
        if is_new:
            holds.release(record)
        fail(f"{output_name(record)} cannot be held whole: no longer on disk are {', '.join(gone)}")


def _release(holds: Holds, record: Record) -> None:
    if not holds.release(record):
        fail(
            f"{output_name(record)}, record {(record.digest or '')[:CUT]}, is not held; `ecg-pipeline hold` lists holds"
        )
