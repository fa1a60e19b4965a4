"""What the commands share: how a home is named, how results are printed, how errors end a command."""

import json
import os
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.lineage import NotFound, find_output
from ecg_pipeline.provenance.record import LayoutError, Record
from ecg_pipeline.study import Study, StudyError, active_study, load_study, study_file, study_home

OUTPUT = (
    "An output: ASSET or ASSET@PARTITION, a build, record or data version by its first digits, an MLflow model or run "
    "id, or a file anywhere, by its content."
)
"""What names an output."""

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="Home folder of a study, moved or not; by default the active study's."),
]
StudyOption = Annotated[
    str | None, typer.Option("--study", metavar="STUDY", help="A built-in study or a file; by default ECG_STUDY.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help=OUTPUT)]

console = Console()


def fail(message: str) -> NoReturn:
    """Print an error and end the command with status 2."""
    Console(stderr=True).print(message, style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(2)


def activate_study(study: str | None) -> Study:
    """Make a study the active one, for this process and its children. An invalid one ends the command."""
    if study:
        os.environ["ECG_STUDY"] = str(Path(study).absolute()) if Path(study).is_file() else study
    try:
        active = active_study()
        Archive(study_home(active)).check_layout()
    except (StudyError, LayoutError) as error:
        fail(str(error))
    return active


def open_archive(home: Path | None, study: str | None) -> Archive:
    """The archive of a home folder, or of a study. Needs no study file if the folder is named."""
    try:
        folder = home or study_home(load_study(study_file(study)) if study else active_study())
    except StudyError as error:
        fail(str(error))
    archive = Archive(folder.absolute())
    if not archive.root.is_dir():
        fail(f"{folder}: nothing was materialised here; name a study's home with --home, or the study with --study")
    try:
        archive.check_layout()
    except LayoutError as error:
        fail(str(error))
    return archive


def output_named(archive: Archive, name: str) -> Record:
    """The record of the output that a command was given; an error ends the command."""
    try:
        return find_output(archive, name)
    except NotFound as error:
        fail(str(error))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural unless it is one."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def key_password() -> bytes | None:
    """Password of the private key that signs, from `ECG_KEY_PASSWORD`; None where it is not set."""
    text = os.environ.get("ECG_KEY_PASSWORD")
    return text.encode() if text else None


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))
