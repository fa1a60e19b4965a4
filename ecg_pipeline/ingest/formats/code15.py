"""CODE-15%: tens of thousands of ECGs in each HDF5 file, with patients and labels in `exams.csv`.

Ribeiro et al. 2021, CODE-15%: a large scale annotated dataset of 12-lead ECGs (Zenodo, 4916206). A file has `tracings`
(n, 4096, 12), floats at 400 Hz, and `exam_id` (n,). They are taken as millivolts, in which their amplitudes are those
of ECGs. Recordings of 7 and 10 s are in the middle of their tracing, with zeros on both sides; the zeros are cut off.
The last tracing of the published files is all zeros.

The samples are no counts: they are rounded to 1 microvolt, with an error of at most 0.5 microvolts. In a lead beyond
32.767 millivolts they are rounded to 1/32,767 of its largest sample, with an error of at most half of that. The store
has the error of each ECG.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_pipeline.ecg import LEADS, Ecg
from ecg_pipeline.ingest.formats.csv_table import CsvTable, csv_table
from ecg_pipeline.ingest.formats.format import EcgFile, Statement
from ecg_pipeline.ingest.formats.hdf5 import dataset, open_hdf5
from ecg_pipeline.ingest.formats.samples import rounded_to_counts
from ecg_pipeline.ingest.formats.values import to_float
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_bytes

if TYPE_CHECKING:
    import h5py

TABLE = "exams.csv"
LABELS = ("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "normal_ecg")
NONE_OF_THEM = "none_of_these"
"""The statement about an exam for which all of `LABELS` are false, so that it counts as labelled."""

SAMPLING_HZ = 400
STEP_UV = 1.0
MAX_EXAMS = 1_000_000

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


def statements() -> tuple[str, ...]:
    """The codes of all statements about an exam."""
    return (*LABELS, NONE_OF_THEM)


def is_code15(name: str) -> bool:
    """Whether a file of this name holds exams."""
    return name.endswith(".hdf5")


def code15_table(folder: Path) -> CsvTable:
    """`exams.csv` by exam; see `csv_table`."""
    required, optional = ("patient_id", *LABELS), ("age", "is_male")
    return csv_table(folder / TABLE, key="exam_id", required=required, optional=optional)


def code15_exams(path: Path) -> list[str]:
    """The identifiers of a file's exams, in its order; see `format.Format.members`."""
    state = path.stat()
    return list(_rows(path, state.st_size, state.st_mtime_ns))


def read_code15(file: EcgFile) -> Ecg:
    """Read one exam of a file, with its row of `exams.csv`; see `format.Reader`."""
    state = file.path.stat()
    rows = _rows(file.path, state.st_size, state.st_mtime_ns)
    if file.member is None or file.member not in rows:
        raise Rejected(RejectReason.NOT_AN_ECG, "no exam of the file")
    with open_hdf5(file.path) as opened:
        tracings = _tracings(opened, file.largest_mb)
        x_mv = np.asarray(tracings[rows[file.member]])
    recorded = np.flatnonzero((x_mv != 0).any(axis=1))
    first, last = (recorded[0], recorded[-1] + 1) if len(recorded) else (0, 0)
    counts, scales = rounded_to_counts(x_mv[first:last].T, STEP_UV)
    row = code15_table(file.folder).row(file.member)
    return Ecg(
        counts,
        LEADS,
        scales,
        SAMPLING_HZ,
        sha256_bytes(x_mv.tobytes()),
        patient_id=known_id(row.get("patient_id")),
        age_years=to_float(row.get("age")),
        sex={True: "M", False: "F", None: None}[_boolean(row.get("is_male"))],
        rounding_microvolts=max(scales) / 2,
    )


def code15_statements(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
    """The labels that are true of each exam, or `NONE_OF_THEM`; see `format.StatementReader`."""
    table = code15_table(folder)
    for name, _ in files:
        row = table.row(name.rpartition("#")[2])
        if not row:
            skipped["exam without a row of the table"] += 1
            continue
        values = {label: _boolean(row[label]) for label in LABELS}
        if None in values.values():
            skipped["row whose labels cannot be read"] += 1
            continue
        for label in [label for label, value in values.items() if value] or [NONE_OF_THEM]:
            yield Statement(name, known_id(row["patient_id"]), label, 1.0)


@lru_cache(maxsize=32)
def _rows(path: Path, size: int, mtime_ns: int) -> Mapping[str, int]:
    """The row of each exam. Size and time of change are part of the cache's key, as the file may change."""
    with open_hdf5(path) as opened:
        exams = dataset(opened, "exam_id", kinds="iu", dimensions=1)
        if exams.shape[0] > MAX_EXAMS:
            raise Rejected(RejectReason.TOO_LARGE, f"{exams.shape[0]:,} exams")
        rows = {str(exam): row for row, exam in enumerate(exams[:].tolist())}
        if len(rows) != exams.shape[0] or exams.shape[0] != _tracings(opened, np.inf).shape[0]:
            raise Rejected(RejectReason.NOT_AN_ECG, "an exam twice, or not one for each tracing")
    return rows


def _tracings(file: "h5py.File", largest_mb: float) -> "h5py.Dataset":
    tracings = dataset(file, "tracings", kinds="f", dimensions=3)
    if tracings.shape[2] != len(LEADS):
        raise Rejected(RejectReason.MISSING_LEADS, f"{tracings.shape[2]} columns")
    if tracings.shape[1] * tracings.shape[2] * tracings.dtype.itemsize > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"tracings of {tracings.shape[1]:,} samples")
    return tracings


def _boolean(text: str | None) -> bool | None:
    return _BOOLEANS.get((text or "").lower())
