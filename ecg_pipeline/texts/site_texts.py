"""The texts of a site's ECGs: read from its files, cleaned, and stripped of people."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.labels import WITHDRAWN
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.reading import ecg_id_of
from ecg_pipeline.storage.files import read_json, write_json, write_parquet
from ecg_pipeline.texts.clean import clean, language_of
from ecg_pipeline.texts.private import without_identities, without_rare_words

REVISION = 1
"""Bumped by hand when the texts of the same files change."""

TEXT_SCHEMA = {
    "ecg_id": pl.String,
    "patient": pl.String,
    "text": pl.String,
    "language": pl.String,
    "source": pl.String,
}

NO_TEXT = "ECG without a text"
"""Why a row is left out: nothing was written about the ECG, or nothing was left of it."""


@dataclass(frozen=True)
class ClinicalTexts:
    """A site's texts. Files: `texts.parquet`, `skipped.json`."""

    folder: Path

    def texts(self) -> pl.DataFrame:
        """One row per ECG that has a text, by ecg_id; columns as in `TEXT_SCHEMA`.

        patient: null where unknown. text: cleaned, see `clean.clean`. language: "en", "de", "sv" or "unknown". source:
        who wrote it, see `format.Texts`. The files need not be ECGs of the waveform store.
        """
        return pl.read_parquet(self.folder / "texts.parquet")

    def skipped(self) -> dict[str, int]:
        """Number of files and rows without a text, by reason."""
        return read_json(self.folder / "skipped.json")


def collect_texts(drop: DropFolder, listing: pl.DataFrame, *, key: PseudonymKey, out: Path) -> ClinicalTexts:
    """Write a site's texts to `out`, from the files of a listing.

    Identities of a text's own file are struck out, and at a private site what few patients share: see `private`.
    A missing table of the format is an error that names it, and one that is still being written an UnsettledError.
    """
    skipped = Counter[str]()
    rows = list(_cleaned(drop, listing, key, skipped))
    if drop.private:
        shared = without_rare_words([row["text"] for row in rows], [row["patient"] for row in rows])
        rows = [{**row, "text": clean(text)} for row, text in zip(rows, shared, strict=True)]
    texts = pl.DataFrame(
        [{**row, "language": language_of(row["text"])} for row in rows if row["text"]], schema=TEXT_SCHEMA
    )
    skipped[NO_TEXT] += sum(not row["text"] for row in rows)
    write_parquet(out / "texts.parquet", texts.sort("ecg_id"))
    write_json(out / "skipped.json", dict(sorted((reason, count) for reason, count in skipped.items() if count)))
    return ClinicalTexts(out)


def training_texts(texts: Iterable[ClinicalTexts], ecgs: pl.DataFrame) -> pl.DataFrame:
    """The texts of some ECGs (column ecg_id), by ecg_id: columns ecg_id, text and language. texts: of each site."""
    wanted = pl.col("ecg_id").is_in(ecgs["ecg_id"].implode())
    found = [one.texts().filter(wanted).select("ecg_id", "text", "language") for one in texts]
    return pl.concat(found).sort("ecg_id")


def _cleaned(
    drop: DropFolder, listing: pl.DataFrame, key: PseudonymKey, skipped: Counter[str]
) -> Iterator[dict[str, Any]]:
    """A row for each text of the format's own files that says something."""
    ecg_format = FORMATS[drop.format]
    if ecg_format.texts is None:
        return
    for table in ecg_format.tables:
        drop.table_file(listing, table.name)
    files = ((name, drop.file(name)) for name in drop.ecg_files(listing)["name"])
    for found in ecg_format.texts.read(drop.path, files, skipped):
        if drop.site_names and found.site_name not in drop.site_names:
            skipped["text of an ECG of another site"] += 1
            continue
        patient = key.pseudonym(drop.mrn_system, found.patient_id) if found.patient_id else None
        if drop.withdrawals.entry_of(key, patient):
            skipped[WITHDRAWN] += 1
            continue
        text = clean(found.text)
        if text and found.identities:
            text = clean(without_identities(text, found.identities))
        if text is None:
            skipped[NO_TEXT] += 1
            continue
        yield {
            "ecg_id": ecg_id_of(drop, key, found.file),
            "patient": patient,
            "text": text,
            "source": ecg_format.texts.source,
        }
