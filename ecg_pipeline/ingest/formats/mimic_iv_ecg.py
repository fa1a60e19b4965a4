"""MIMIC-IV-ECG: WFDB records in folders that are named after the subject.

Gow et al. 2023, MIMIC-IV-ECG: Diagnostic Electrocardiogram Matched Subset.
"""

import re
from dataclasses import replace

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.values import to_time
from ecg_pipeline.ingest.formats.wfdb import read_header, read_wfdb
from ecg_pipeline.ingest.pseudonyms import known_id

_SUBJECT = re.compile(r"/p(\d{6,9})/s\d+/")


def read_mimic_iv_ecg(file: EcgFile) -> Ecg:
    """Read a MIMIC-IV-ECG record; see `format.Reader`."""
    subject = _SUBJECT.search(file.path.as_posix())
    return replace(
        read_wfdb(file),
        patient_id=known_id(subject.group(1)) if subject else None,
        acquired_at=to_time(read_header(file.path).start, "%H:%M:%S %d/%m/%Y"),
    )
