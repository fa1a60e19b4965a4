"""Records of MIMIC-IV-ECG: another lead order, the subject and time of one, and the cart's words by study."""

from collections import Counter
from datetime import datetime

import pytest

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.mimic_iv_ecg import mimic_statements, read_mimic_iv_ecg
from ecg_pipeline_tests.ingest.conftest import read, write_csv, write_record

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


def tables(folder, words, records=("1001", "1002", "1003")):
    """The tables of a folder with some studies. words: the lines of each study, in another order than the records."""
    path = "files/p1000/p10001234/s{0}/{0}"
    write_csv(
        folder / "record_list.csv",
        [{"subject_id": "10001234", "study_id": study, "path": path.format(study)} for study in records],
    )
    write_csv(
        folder / "machine_measurements.csv",
        [
            {"subject_id": "10001234", "study_id": study, **{f"report_{n}": "" for n in range(18)}}
            | {f"report_{n}": line for n, line in enumerate(lines)}
            for study, lines in words.items()
        ],
    )


def stated(folder):
    skipped = Counter()
    return [(one.file, one.patient_id, one.code) for one in mimic_statements(folder, [], skipped)], skipped


def test_the_carts_words_are_those_of_the_study_not_of_the_row(tmp_path):
    last = ["Atrial fibrillation"] + ["Mr. PLANTED was seen"] * 16 + ["Abnormal ECG"]
    tables(tmp_path, {"1003": last, "9999": ["Normal ECG"], "1001": ["Sinus rhythm", "sinus  RHYTHM", "see above"]})
    path = "files/p1000/p10001234/s{0}/{0}.hea"
    found, skipped = stated(tmp_path)
    assert found == [
        (path.format(1001), "10001234", "SINUS RHYTHM"),
        (path.format(1003), "10001234", "ATRIAL FIBRILLATION"),
        (path.format(1003), "10001234", "ABNORMAL ECG"),
    ]
    assert skipped == {"study without the cart's words": 1}


def test_a_table_that_is_missing_or_another_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"record_list.csv"):
        stated(tmp_path)
    tables(tmp_path, {"1001": ["Sinus rhythm"]})
    (tmp_path / "machine_measurements.csv").write_text("study_id,report\n1001,Sinus rhythm\n")
    with pytest.raises(ValueError, match=r"machine_measurements.csv: no column subject_id, report_0"):
        stated(tmp_path)


def test_bad_rows_end_no_table(tmp_path):
    tables(tmp_path, {"1001": ["Sinus rhythm"]})
    with (tmp_path / "machine_measurements.csv").open("ab") as file:
        file.write(b"\n,\xff\xfe,,\n1,2,3" + b",x" * 50 + b"\n10001234,1002,Atrial fibrillation\n")
    assert [code for _, _, code in stated(tmp_path)[0]] == ["SINUS RHYTHM", "ATRIAL FIBRILLATION"]
