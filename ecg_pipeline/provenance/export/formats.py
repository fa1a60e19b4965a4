"""The formats in which provenance is exported."""

from collections.abc import Callable
from pathlib import Path

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.export import croissant, cyclonedx, model_card, openlineage, prov, ro_crate, slsa
from ecg_pipeline.provenance.export.collect import facts_of
from ecg_pipeline.provenance.export.facts import Facts
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.provenance.record import Record

WRITERS: dict[str, Callable[[Facts, Path], list[Path]]] = {
    "ro-crate": ro_crate.write,
    "croissant": croissant.write,
    "cyclonedx": cyclonedx.write,
    "model-card": model_card.write,
    "prov": prov.write,
    "openlineage": openlineage.write,
}
"""What writes each format but SLSA, which is signed. A format is one function and one line."""

SIGNED = "slsa"
FORMATS = (SIGNED, *WRITERS)
FOLDERS = (SIGNED, "ro-crate", "croissant")
"""The formats that are several files, in a folder."""


class ExportError(ValueError):
    """An export cannot be written where, or as, it was asked for."""


def write_export(
    archive: Archive, output: Record, *, form: str, out: Path, key: Path | None = None, password: bytes | None = None
) -> list[Path]:
    """Write what is known of an output in one of `FORMATS` and return the files.

    out: a file, or a folder for the formats in `FOLDERS`. key, password: ECDSA private key in PEM and what it is
    encrypted with, if it is, for `slsa` alone.
    """
    out = out.absolute()
    if form not in FORMATS:
        raise ExportError(f"there is no format {form}; there are {', '.join(FORMATS)}")
    if (form == SIGNED) != (key is not None):
        wanted = "is signed: name an ECDSA private key with" if form == SIGNED else "is not signed: leave out"
        raise ExportError(f"{form} {wanted} --key")
    if out.resolve().is_relative_to(archive.home.resolve()):
        raise ExportError(f"{out} is inside the home {archive.home}, which holds nothing but what has a record")
    if form in FOLDERS and out.exists() and not out.is_dir():
        raise ExportError(f"{out} is a file, and {form} is written to a folder")
    if form not in FOLDERS and out.is_dir():
        raise ExportError(f"{out} is a folder, and {form} is written to a file")
    facts = facts_of(archive, lineage(archive, output))
    if key is not None:
        return slsa.write(facts, out, folder=archive.folder(output), key=key, password=password)
    return WRITERS[form](facts, out)
