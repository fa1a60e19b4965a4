"""A small hospital system, and one of its exports."""

from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.synthetic.drop_folders import EXPORTERS
from ecg_pipeline.synthetic.heart import measure, median_beat, sample_heart, sample_person, simulate
from ecg_pipeline.synthetic.hospital import HospitalSystem, Planted, write_hospital_system
from ecg_pipeline.synthetic.muse import MuseEcg, Patient, to_counts

SMALL = HospitalSystem(patients=60, ecgs=100, seed=3)


@pytest.fixture(scope="session")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Planted]:
    folder = tmp_path_factory.mktemp("synthetic") / "hospital_system"
    return folder, write_hospital_system(SMALL, folder)


@pytest.fixture(scope="session")
def muse_ecg() -> MuseEcg:
    rng = np.random.default_rng(0)
    heart = sample_heart(sample_person(rng), disease="none", severity=0, rng=rng)
    x_mv, times, premature = simulate(heart, seconds=10, sampling_hz=500, rng=rng)
    return MuseEcg(
        exporter=EXPORTERS["mount_sinai"],
        patient=Patient("70000001", "ZORVEKQUIL", "MIRDRAX", "02-29-1940", "F"),
        patient_id="70000001",
        age_years=75,
        acquired_at=datetime(2015, 3, 4, 5, 6, 7),
        sampling_hz=500,
        median=to_counts(median_beat(heart, 500)),
        rhythm=to_counts(x_mv),
        r_times_ms=tuple(np.rint(times * 1000).astype(int).tolist()),
        premature=tuple(premature.tolist()),
        measurements=measure(heart),
        statements=("Sinus rhythm", "Nonspecific ST & T wave abnormality"),
    )


def drop_folder(folder: Path, site: str) -> DropFolder:
    """The site's folder as a study would name it."""
    if site == "ptb_xl_like":
        return DropFolder(site, folder / site, "ptb_xl", patients="synthetic")
    tables = ("echo_reports.csv", "diagnoses.csv")
    names = (EXPORTERS[site].site_name,)
    return DropFolder(site, folder / site, "muse_xml", names, "hospital_system", tables, "synthetic")
