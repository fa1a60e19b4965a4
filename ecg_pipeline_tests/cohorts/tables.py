"""Tables of ECGs and of labels, by hand."""

from datetime import datetime, timedelta

import polars as pl

from ecg_pipeline.ingest.labels import LABEL_SCHEMA
from ecg_pipeline.ingest.store import ECG_SCHEMA

DAY = datetime(2020, 6, 1)


def ecgs(site, patients, waveforms=None):
    rows = [
        {
            "ecg_id": f"{site}-{n}",
            "site": site,
            "patient": patient,
            "acquired_at": DAY,
            "waveform_sha256": waveforms[n] if waveforms else f"{site}-{n}",
        }
        for n, patient in enumerate(patients)
    ]
    return pl.DataFrame(rows, schema=ECG_SCHEMA)


def facts(*rows):
    """rows: (patient, ecg_id, days after the ECG, system, code, value)."""
    return pl.DataFrame(
        [
            {
                "patient": patient,
                "ecg_id": ecg_id,
                "observed_at": DAY + timedelta(days=days),
                "system": system,
                "code": code,
                "value": float(value),
            }
            for patient, ecg_id, days, system, code, value in rows
        ],
        schema=LABEL_SCHEMA,
    )
