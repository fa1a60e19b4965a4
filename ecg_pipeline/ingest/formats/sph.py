"""SPH: one HDF5 file an ECG, with patients and AHA statements in `metadata.csv`.

Liu et al. 2022, A large-scale multi-label 12-lead electrocardiogram database with standardized diagnostic statements.
A file has `ecg` (12, T), millivolts at 500 Hz in half precision: counts of 0.8 microvolts, rounded. They are stored as
these counts again. Rounded to half precision, the stored samples are those of the file; they differ from them by up to
0.4 microvolts, because the file itself is off by as much.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ecg_pipeline.ecg import LEADS, Ecg
from ecg_pipeline.ingest.checks import whole_hz
from ecg_pipeline.ingest.formats.csv_table import CsvTable, csv_table
from ecg_pipeline.ingest.formats.format import EcgFile, Statement, StatementReader
from ecg_pipeline.ingest.formats.hdf5 import dataset, open_hdf5
from ecg_pipeline.ingest.formats.samples import rounded_to_counts
from ecg_pipeline.ingest.formats.values import to_float, to_time
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_file

TABLE = "metadata.csv"
SAMPLING_HZ = 500
STEP_UV = 0.8


def is_sph(name: str) -> bool:
    """Whether a file of this name is an ECG."""
    return name.endswith(".h5")


def sph_table(folder: Path) -> CsvTable:
    """`metadata.csv` by file, as the published table writes it or with a suffix; see `csv_table`."""
    required, optional = ("AHA_Code", "Patient_ID"), ("Age", "Sex", "N", "Date", "fs", "SNOMEDCTCode")
    return csv_table(folder / TABLE, key="ECG_ID", required=required, optional=optional)


def read_sph(file: EcgFile) -> Ecg:
    """Read one ECG with its row of `metadata.csv`; see `format.Reader`."""
    row = _row(file.folder, file.path)
    with open_hdf5(file.path) as opened:
        samples = dataset(opened, "ecg", kinds="f", dimensions=2)
        if samples.shape[0] != len(LEADS):
            raise Rejected(RejectReason.MISSING_LEADS, f"{samples.shape[0]} rows")
        if samples.size * samples.dtype.itemsize > file.largest_mb * 2**20:
            raise Rejected(RejectReason.TOO_LARGE, f"{samples.shape[1]:,} samples")
        x_mv = np.asarray(samples[:])
    stated = to_float(row.get("N"))
    if stated is not None and stated != x_mv.shape[1]:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"{x_mv.shape[1]} samples")
    counts, scales = rounded_to_counts(x_mv, STEP_UV)
    return Ecg(
        counts,
        LEADS,
        scales,
        whole_hz(to_float(row.get("fs")) or SAMPLING_HZ),
        sha256_file(file.path),
        patient_id=known_id(row.get("Patient_ID")),
        acquired_at=to_time(row.get("Date"), "%Y-%m-%d"),
        age_years=to_float(row.get("Age")),
        sex={"M": "M", "F": "F"}.get((row.get("Sex") or "").upper()[:1]),
        rounding_microvolts=max(scales) / 2,
    )


def sph_statements(column: str, separator: str, equal: Mapping[str, str] | None = None) -> StatementReader:
    """A reader of the statements in a column of `metadata.csv`; see `format.StatementReader`.

    AHA statements (`AHA_Code`) are numbers, and modifiers follow after plus signs: `60+310` is the statements 60 and
    60+310. Where a folder's table has no such column, there are no statements. equal: codes that are read as another.
    """

    def read(folder: Path, files: Iterable[tuple[str, Path]], skipped: Counter[str]) -> Iterator[Statement]:
        for name, path in files:
            row = _row(folder, path)
            if not row:
                skipped["file without a row of the table"] += 1
                continue
            stated = [code.strip() for code in (row.get(column) or "").split(separator)]
            codes = (code for one in stated for code in (one.partition("+")[0].strip(), one))
            for code in dict.fromkeys((equal or {}).get(code, code) for code in codes if code):
                yield Statement(name, known_id(row["Patient_ID"]), code, 1.0)

    return read


def _row(folder: Path, path: Path) -> Mapping[str, str | None]:
    table = sph_table(folder)
    return table.row(path.name) or table.row(path.stem)
