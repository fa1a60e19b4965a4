"""Reading one listed file of a drop folder, or one ECG of a file of many: it becomes an ECG with its table row, or a
reject.
"""

import hashlib
from math import inf
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.checks import check_ecg, check_file
from ecg_pipeline.ingest.drop_folder import DropFolder, file_state
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, storable_age
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import Rejected, RejectReason, reader_error

CHANGED = "changed since the folder was listed"

PLAIN_SUFFIXES = {".xml", ".hea", ".txt", ".csv", ".pdf", ".dat", ".mat", ".zip", ".dcm", ".h5", ".hdf5"}
"""Suffixes of private files that may be stored: any other may be part of a patient's name."""


def read_listed_file(
    name: str, listed: tuple[int, int], *, drop: DropFolder, recipe: IngestRecipe, key: PseudonymKey
) -> tuple[Ecg, dict[str, Any]]:
    """Read an ECG of `DropFolder.ecgs`: the ECG, and its row of the table as in `ecg_row`. Raises `Rejected`, also for
    any other exception of a reader but MemoryError.

    listed: the file's size and time of change in the listing; a file that has changed since is a reject.
    """
    (path, member), patient = drop.place(name), None
    try:
        ecg = _parse(path, drop, recipe, member)
        patient = key.pseudonym(drop.mrn_system, ecg.patient_id) if ecg.patient_id else None
        if drop.withdrawals.entry_of(key, patient):
            raise Rejected(RejectReason.WITHDRAWN)
        check_ecg(ecg, site_names=drop.site_names, minimum_seconds=recipe.minimum_seconds)
        outcome = ecg, ecg_row(name, ecg, drop=drop, key=key)
    except MemoryError:
        raise
    except Rejected as rejected:
        outcome = rejected
    except Exception as error:  # noqa: BLE001 - one bad file must not stop a site; `WaveformStore.reader_errors` counts these
        outcome = reader_error(error)
    if _has_changed(path, listed):
        outcome = Rejected(RejectReason.UNREADABLE, CHANGED, transient=True)
    if isinstance(outcome, Rejected):
        outcome.patient = patient
        raise outcome
    return outcome


def read_ecg(path: Path, drop: DropFolder, recipe: IngestRecipe) -> Ecg:
    """The ECG of one file of a drop folder, with every check. Raises `Rejected`."""
    ecg = _parse(path, drop, recipe)
    check_ecg(ecg, site_names=drop.site_names, minimum_seconds=recipe.minimum_seconds)
    return ecg


def _parse(path: Path, drop: DropFolder, recipe: IngestRecipe, member: str | None = None) -> Ecg:
    """The content of a file, or of one ECG of a file of many, before it is checked whether it can be used."""
    ecg_format = FORMATS[drop.format]
    check_file(path, drop.path, recipe.largest_file_mb if ecg_format.members is None else inf)
    return ecg_format.read(EcgFile(path, drop.path, recipe.largest_file_mb, member))


def ecg_row(name: str, ecg: Ecg, *, drop: DropFolder, key: PseudonymKey) -> dict[str, Any]:
    """Row of the table of ECGs, without `shard`, `array` and `row`: only what may be stored of the patient."""
    return {
        "ecg_id": ecg_id_of(drop, key, name),
        "site": drop.site,
        "patient": key.pseudonym(drop.mrn_system, ecg.patient_id) if ecg.patient_id else None,
        "microvolts_per_count": list(ecg.microvolts_per_count),
        "leads": list(ecg.leads),
        "sampling_hz": ecg.sampling_hz,
        "samples": ecg.counts.shape[1],
        "source": source_of(drop, key, name),
        "source_sha256": ecg.source_sha256,
        "waveform_sha256": waveform_sha256(ecg),
        "acquired_at": ecg.acquired_at,
        "age_years": storable_age(ecg.age_years),
        "sex": ecg.sex,
        "device": ecg.device,
        "fold": ecg.fold,
        "rounding_microvolts": ecg.rounding_microvolts,
    }


def waveform_sha256(ecg: Ecg) -> str:
    """The identity of a recording, whatever file, patient or site it is filed under: digest of its rate, its leads and
    their counts.

    The scale is left out: two data sets may state different gains for one recording, and no two recordings have the
    same counts. The order of the leads in a file makes no difference: readers put them in clinical order. A copy that
    was resampled or rounded, or that has more or fewer leads, is not recognised.
    """
    digest = hashlib.sha256(repr((ecg.sampling_hz, ecg.leads)).encode())
    digest.update(np.ascontiguousarray(ecg.counts).data)
    return digest.hexdigest()


def ecg_id_of(drop: DropFolder, key: PseudonymKey, name: str) -> str:
    """Sixteen hex digits for one ECG of a site, by its name in `DropFolder.ecgs`: its primary key in every table."""
    return key.digest(f"record\0{drop.site}\0{name}")[:16]


def source_of(drop: DropFolder, key: PseudonymKey, name: str) -> str:
    """A file's name for storage: at a private site its keyed digest, because files may be named after patients."""
    if not drop.private:
        return name
    suffix = PurePosixPath(name).suffix
    digest = key.digest(f"source\0{drop.site}\0{name}")[:16]
    return f"~{digest}{suffix if suffix.lower() in PLAIN_SUFFIXES else ''}"


def _has_changed(path: Path, listed: tuple[int, int]) -> bool:
    try:
        return file_state(path) not in (listed, None)
    except OSError:
        return True
