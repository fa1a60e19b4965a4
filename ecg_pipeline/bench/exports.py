"""MUSE exports to measure with: whole 10 s ECGs of about 140 KB, as many as wanted, no two alike."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np

from ecg_pipeline.synthetic.drop_folders import EXPORTERS
from ecg_pipeline.synthetic.heart import measure, median_beat, sample_heart, sample_person, simulate
from ecg_pipeline.synthetic.muse import MuseEcg, Patient, muse_xml, to_counts
from ecg_pipeline.synthetic.noise import simulate_noise

HEARTS = 20
FILES_PER_FOLDER = 10_000


def write_exports(folder: Path, count: int) -> Path:
    """Write `count` exports of twenty hearts, each with noise of its own, two a patient. Returns `folder`."""
    rng = np.random.default_rng(0)
    models = [_model(rng) for _ in range(HEARTS)]
    for number in range(count):
        model = models[number % HEARTS]
        rhythm = model.rhythm + rng.integers(-2, 3, model.rhythm.shape, np.int16)
        ecg = replace(model, rhythm=rhythm, patient_id=f"{7_000_000 + number // 2}")
        path = folder / f"{number // FILES_PER_FOLDER:03d}" / f"MUSE_{number:07d}.xml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(muse_xml(ecg))
    return folder


def _model(rng: np.random.Generator) -> MuseEcg:
    heart = sample_heart(sample_person(rng), disease="none", severity=0.0, rng=rng)
    x_mv, times, premature = simulate(heart, seconds=10, sampling_hz=500, rng=rng)
    return MuseEcg(
        exporter=EXPORTERS["mount_sinai"],
        patient=Patient("7000000", "Nobody", "Ann", "01-01-1950", "F"),
        patient_id=None,
        age_years=60,
        acquired_at=datetime(2020, 1, 1, 12),
        sampling_hz=500,
        median=to_counts(median_beat(heart, 500)),
        rhythm=to_counts(x_mv + simulate_noise(seconds=10, sampling_hz=500, mains_hz=60, rng=rng)),
        r_times_ms=tuple(np.rint(times * 1000).astype(int).tolist()),
        premature=tuple(premature.tolist()),
        measurements=measure(heart),
        statements=("Sinus rhythm", "Normal ECG"),
    )
