"""`ecg-pipeline reproduce`: make an output again from its record, and compare the files."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ecg_pipeline.commands.common import (
    HomeOption,
    JsonOption,
    ModelArgument,
    StudyOption,
    console,
    fail,
    open_archive,
    output_named,
    print_json,
)
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.lease import STALE_S, hold, holder
from ecg_pipeline.provenance.lineage import output_name

if TYPE_CHECKING:
    from ecg_pipeline.orchestration.reproduce import Comparison, Mismatch

SCRATCH = ".reproduce-"
"""What the names of scratch folders in a home start with."""


def reproduce(
    model: ModelArgument,
    *,
    is_whole: Annotated[
        bool, typer.Option("--all", help="Make everything upstream again, too, from the drop folders.")
    ] = False,
    is_accepted: Annotated[bool, typer.Option("--anyway", help="Go on although something differs.")] = False,
    into: Annotated[
        Path | None, typer.Option("--into", metavar="DIR", help="Scratch folder to keep; by default it is deleted.")
    ] = None,
    study: StudyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make an output again from its record, in a scratch home, and compare the files. Says first what differs."""
    archive = open_archive(home, study)
    record = output_named(archive, model)
    from ecg_pipeline.orchestration import without_preview_warnings
    from ecg_pipeline.orchestration.reproduce import CannotReproduce, Reproduction

    made = list["Comparison"]()
    with _scratch(archive, into) as folder:
        reproduction = Reproduction(archive, record, folder, is_whole=is_whole)
        try:
            with console.status("Comparing the code, the machine and the inputs"), without_preview_warnings():
                mismatches = reproduction.mismatches()
            if not as_json:
                _print_mismatches(mismatches)
            if is_accepted or not mismatches:
                with console.status("Loading") as status:
                    made = reproduction.run(status.update)
        except CannotReproduce as error:
            fail(str(error))
    if as_json:
        print_json({"output": output_name(record), "record": record.digest} | _content(mismatches, made))
    elif made:
        _print(made)
    if not made:
        fail("Not made again, because of these differences. Remove them, or go on with --anyway.")
    if not all(one.is_equal for one in made):
        raise typer.Exit(1)


@contextmanager
def _scratch(archive: Archive, into: Path | None) -> Iterator[Path]:
    """The scratch folder: one to keep, or one in the home, whose files can be linked, that is deleted."""
    if into is None:
        if not os.access(archive.home, os.W_OK):
            fail(f"{archive.home} cannot be written to: name a scratch folder with --into")
        _clear_leftovers(archive)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=archive.home) as folder, hold(Path(folder)):
            yield Path(folder)
        return
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        fail(f"{into}: the scratch folder must be empty or absent")
    yield into.absolute()


def _clear_leftovers(archive: Archive) -> None:
    """Delete the scratch folders that killed commands left in a home."""
    for folder in archive.home.glob(f"{SCRATCH}*"):
        is_old = time.time() - folder.stat().st_mtime > STALE_S
        if is_old and holder(folder) is None:
            shutil.rmtree(folder)


def _content(mismatches: "list[Mismatch]", made: "list[Comparison]") -> dict[str, Any]:
    return {
        "differences": [asdict(one) for one in mismatches],
        "is_equal": all(one.is_equal for one in made) if made else None,
        "outputs": [
            {
                "output": output_name(one.recorded),
                "is_equal": one.is_equal,
                "recorded": one.recorded.files,
                "made": one.made.files,
            }
            for one in made
        ],
    }


def _print_mismatches(mismatches: "list[Mismatch]") -> None:
    if not mismatches:
        console.print("Code, packages, machine and inputs are those of the record.")
        return
    console.print(Text("Differs from when the output was made", "bold"))
    for one in mismatches:
        console.print(Text(f"  {one.what}: recorded {one.recorded}, here {one.here}"), soft_wrap=True)


def _print(made: "list[Comparison]") -> None:
    for one in made:
        console.print(Text(f"{'✓' if one.is_equal else '✗'} {output_name(one.recorded)}"), soft_wrap=True)
        listed = [("equal", one.equal), ("other content", one.altered), ("not made", one.missing), ("new", one.added)]
        for verdict, names in listed:
            for name in names if one is made[-1] or verdict != "equal" else ():
                console.print(Text(f"    {verdict:<14}{name}"), soft_wrap=True)
    output = made[-1]
    count = f"{len(output.equal)} of {len(output.recorded.files)} files have the recorded digests"
    console.print(f"{count}: {'reproduced' if output.is_equal else 'NOT reproduced'}")
