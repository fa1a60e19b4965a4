"""`ecg-pipeline export`: what is known of an output, in formats that other programs read."""

from pathlib import Path
from typing import Annotated

import typer

from ecg_pipeline.commands.common import (
    HomeOption,
    ModelArgument,
    StudyOption,
    console,
    fail,
    key_password,
    open_archive,
    output_named,
)
from ecg_pipeline.provenance.export.collect import AlteredFilesError
from ecg_pipeline.provenance.export.extra import MissingExtra
from ecg_pipeline.provenance.export.formats import FORMATS, ExportError, write_export
from ecg_pipeline.provenance.signing import SignatureError


def export(
    model: ModelArgument,
    *,
    form: Annotated[str, typer.Option("--format", metavar="FORMAT", help=f"One of {', '.join(FORMATS)}.")],
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="PATH", help="A file; for slsa, ro-crate and croissant a folder. Outside the home."
        ),
    ],
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="Your ECDSA private key (PEM), which signs slsa; its password, if any, in ECG_KEY_PASSWORD.",
        ),
    ] = None,
    home: HomeOption = None,
    study: StudyOption = None,
) -> None:
    """Write where an output comes from in a format that other programs or people read.

    No pseudonym of a patient, no ECG and no file name of a hospital is in any of them.
    """
    archive = open_archive(home, study)
    record = output_named(archive, model)
    try:
        written = write_export(archive, record, form=form, out=out, key=key, password=key_password())
    except (ExportError, MissingExtra, SignatureError, AlteredFilesError, OSError) as error:
        fail(str(error))
    for path in written:
        console.print(path, soft_wrap=True, markup=False, highlight=False)
