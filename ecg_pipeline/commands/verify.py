"""`ecg-pipeline verify` and `checkpoint`: whether outputs are as recorded, and a signed state of the ledger."""

import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ecg_pipeline.commands.common import (
    OUTPUT,
    HomeOption,
    JsonOption,
    StudyOption,
    console,
    counted,
    fail,
    key_password,
    open_archive,
    output_named,
    print_json,
)
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.ledger import Head
from ecg_pipeline.storage.files import read_json, sha256_bytes, write_json

CHECKPOINT_TYPE = "application/vnd.ecg-pipeline.ledger-checkpoint+json"
"""DSSE payload type of a checkpoint."""


class _FilesDone:
    """How many files are verified, made into text when the screen is refreshed and not for every file."""

    done, total = 0, 0

    def note(self, done: int, total: int) -> None:
        """Note the progress."""
        self.done, self.total = done, total

    def __rich__(self) -> str:
        return f"Verifying: {self.done:,} of {self.total:,} files"


def verify(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help=f"{OUTPUT} It is verified with everything upstream; by default all are."),
    ] = None,
    *,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at sizes, records, ledger and signatures, not at contents.")
    ] = False,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", metavar="FILE", help="A signed state of the ledger, kept elsewhere.")
    ] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", metavar="FILE", help="The public key (PEM) of who signed the checkpoint."),
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
    study: StudyOption = None,
) -> None:
    """Compute every digest again, and name what was altered, is missing, or is not recorded.

    The status is 1 if there is anything. An interrupted verification goes on where it stopped.
    """
    from ecg_pipeline.provenance.hashing import Hasher
    from ecg_pipeline.provenance.lineage import lineage
    from ecg_pipeline.provenance.verify import Scope
    from ecg_pipeline.provenance.verify import verify as verify_outputs

    archive = open_archive(home, study)
    head = _signed_head(checkpoint, public_key) if checkpoint else None
    records = lineage(archive, output_named(archive, model)).records if model else None
    hasher = Hasher(_journal(archive))
    files = _FilesDone()
    with console.status(files):
        found = verify_outputs(
            archive, Scope(records, quick, head), hasher=hasher, workers=os.cpu_count() or 1, progress=files.note
        )
    hasher.finish()
    if as_json:
        print_json(asdict(found))
    else:
        for note in found.notes:
            console.print(f"note: {escape(note)}", highlight=False, soft_wrap=True)
        for finding in found.findings:
            of = f" ({finding.output})" if finding.output else ""
            console.print(
                f"[red]{escape(finding.file + of)}: {escape(finding.what)}[/red]", highlight=False, soft_wrap=True
            )
        looked = "sizes" if quick else "contents"
        state = counted(len(found.findings), "finding") if found.findings else "nothing was altered"
        console.print(
            f"{counted(found.records, 'record')}, {looked} of {counted(found.files, 'file')} "
            f"({counted(found.bytes, 'byte')}), {found.entries:,} ledger entries: {state}",
            highlight=False,
        )
    if found.findings:
        raise typer.Exit(1)


def checkpoint(
    *,
    key: Annotated[
        Path,
        typer.Option(
            "--key", metavar="FILE", help="Your ECDSA private key (PEM); its password, if any, in ECG_KEY_PASSWORD."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it. Keep it apart from the home.")],
    home: HomeOption = None,
    study: StudyOption = None,
) -> None:
    """Sign the present state of the ledger, so that a copy kept elsewhere proves what was in it."""
    from ecg_pipeline.provenance.signing import SignatureError, sign

    archive = open_archive(home, study)
    if problems := list(archive.ledger.problems()):
        fail(f"the ledger is not whole, so it is not signed: {problems[0]}")
    head = archive.ledger.head()
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    payload = {"study": archive.home.name, "entries": head.entries, "digest": head.digest, "signed_at": now}
    try:
        envelope = sign(payload, payload_type=CHECKPOINT_TYPE, key=key, password=key_password())
    except (SignatureError, OSError) as error:
        fail(str(error))
    write_json(out, envelope)
    typer.echo(f"{head.entries} entries, head {head.digest}, signed in {out}")


def _signed_head(checkpoint: Path, public_key: Path | None) -> Head:
    from ecg_pipeline.provenance.signing import SignatureError, verified_payload

    if public_key is None:
        fail("name the key that the checkpoint is signed by: --public-key FILE")
    try:
        payload = verified_payload(read_json(checkpoint), payload_type=CHECKPOINT_TYPE, public_key=public_key)
    except (SignatureError, OSError, ValueError) as error:
        fail(f"{checkpoint}: {error}")
    return Head(payload["entries"], payload["digest"])


def _journal(archive: Archive) -> Path:
    """File in the user's cache, outside the home, in which an interrupted verification left its digests."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "ecg-pipeline" / f"verify-{sha256_bytes(str(archive.home).encode())[:16]}"
