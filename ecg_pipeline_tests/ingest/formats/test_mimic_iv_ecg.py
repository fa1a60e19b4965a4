"""Records of MIMIC-IV-ECG: another lead order, and the subject and time that belong to one."""

from datetime import datetime

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.mimic_iv_ecg import read_mimic_iv_ecg
from ecg_pipeline_tests.ingest.conftest import read, write_record

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def test_another_lead_order_is_put_right(tmp_path, samples):
    path = write_record(tmp_path / "files" / "p1000" / "p10001234" / "s4000" / "4000.hea", samples, MIMIC_LEADS)
    ecg = read(read_mimic_iv_ecg, path)
    assert ecg.leads == LEADS
    assert (ecg.counts[LEADS.index("aVF")] == samples[MIMIC_LEADS.index("aVF")]).all()
    assert ecg.patient_id == "10001234"


def test_the_time_is_in_the_first_line(tmp_path, samples):
    path = write_record(tmp_path / "1.hea", samples, first_line="1 12 500 5000 09:17:34 09/11/2084")
    assert read(read_mimic_iv_ecg, path).acquired_at == datetime(2084, 11, 9, 9, 17, 34)
    assert read(read_mimic_iv_ecg, write_record(tmp_path / "1.hea", samples)).acquired_at is None
