"""SPH: the counts behind samples of half precision, and the row of the table that belongs to each file."""

import shutil
from collections import Counter
from datetime import datetime

import h5py
import numpy as np

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.formats.sph import read_sph
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline_tests.ingest.conftest import read, reason_of, write_csv


def test_real_files_come_back_to_the_last_bit(shared):
    files = sorted((shared / "data" / "other_formats" / "sph").glob("*.h5"))
    assert len(files) == 10
    for path in files:
        ecg = read(read_sph, path)
        with h5py.File(path) as file:
            samples = file["ecg"][:]
        x_mv = ecg.counts * np.array(ecg.microvolts_per_count)[:, None] / 1000
        assert np.array_equal(x_mv.astype(np.float16), samples)
        assert np.abs(x_mv - samples.astype(np.float64)).max() * 1000 <= ecg.rounding_microvolts + 1e-9
        assert (ecg.leads, ecg.sampling_hz, ecg.rounding_microvolts) == (LEADS, 500, 0.4)


def test_the_row_of_the_table_belongs_to_its_file(shared):
    folder = shared / "data" / "other_formats" / "sph"
    ecg = read(read_sph, folder / "SPH00007.h5")
    assert (ecg.patient_id, ecg.age_years, ecg.sex) == ("S00007", 75.0, "M")
    assert ecg.acquired_at == datetime(2020, 4, 1)
    without = read(read_sph, folder / "SPH00005.h5")
    assert (without.patient_id, without.age_years, without.sex) == (None, None, None)


def test_a_file_of_another_length_than_its_row_says(shared, tmp_path):
    shutil.copy(shared / "data" / "other_formats" / "sph" / "SPH00001.h5", tmp_path / "a.h5")
    write_csv(tmp_path / "metadata.csv", [{"ECG_ID": "a", "AHA_Code": "1", "Patient_ID": "p", "N": "4999"}])
    assert reason_of(read_sph, tmp_path / "a.h5") == RejectReason.WRONG_SAMPLE_COUNT


def statements(folder, names):
    skipped, said = Counter(), {}
    for of_system in FORMATS["sph"].statements:
        files = [(name, folder / name) for name in names]
        said[of_system.system] = [(one.file, one.code) for one in of_system.read(folder, files, skipped)]
    return said, skipped


def test_statements_of_both_systems(shared):
    said, skipped = statements(shared / "data" / "other_formats" / "sph", ["SPH00001.h5", "SPH00005.h5", "SPH00007.h5"])
    assert said["aha"] == [("SPH00001.h5", "22"), ("SPH00001.h5", "23"), ("SPH00007.h5", "106")]
    assert said["snomed"] == [
        ("SPH00001.h5", "426177001"),
        ("SPH00001.h5", "427393009"),
        ("SPH00007.h5", "59118001"),
    ]
    assert skipped == {"file without a row of the table": 2}


def test_a_modifier_leaves_the_statement_what_it_is_and_no_mapping_gives_no_snomed(tmp_path):
    write_csv(tmp_path / "metadata.csv", [{"ECG_ID": "A1", "AHA_Code": "60+310+312; 60;1", "Patient_ID": "p"}])
    said, _ = statements(tmp_path, ["A1.h5"])
    assert [code for _, code in said["aha"]] == ["60", "60+310+312", "1"]
    assert said["snomed"] == []
