"""WFDB records: real ones equal what the wfdb package reads, bad ones are refused."""

import re

import numpy as np
import pytest
import wfdb

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.wfdb import read_cinc, read_header, read_mimic_iv_ecg, read_ptb_xl, read_wfdb
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline_tests.ingest.conftest import write_record

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def test_real_challenge_records_equal_what_wfdb_reads(shared):
    compared = refused_by_wfdb = 0
    for path in sorted((shared / "data" / "cinc").rglob("*.hea")):
        ecg = read_cinc(path)
        try:
            record = wfdb.rdrecord(str(path.with_suffix("")))
        except ValueError:
            refused_by_wfdb += 1
            continue
        x_mv = ecg.counts * np.array(ecg.microvolts_per_count)[:, None] / 1000
        order = [[name.upper() for name in record.sig_name].index(lead.upper()) for lead in ecg.leads]
        np.testing.assert_allclose(x_mv, record.p_signal.T[order], atol=1e-9)
        compared += 1
    assert compared > 250
    assert refused_by_wfdb > 0


def test_demographics_of_a_challenge_record(shared):
    ecg = read_cinc(shared / "data" / "cinc" / "a" / "A0374.hea")
    assert (ecg.age_years, ecg.sex, ecg.patient_id) == (88.0, "F", "A0374")


def test_another_lead_order_is_put_right(tmp_path, samples):
    path = write_record(tmp_path / "files" / "p1000" / "p10001234" / "s4000" / "4000.hea", samples, MIMIC_LEADS)
    ecg = read_mimic_iv_ecg(path)
    assert ecg.leads == LEADS
    assert (ecg.counts[LEADS.index("aVF")] == samples[MIMIC_LEADS.index("aVF")]).all()
    assert ecg.patient_id == "10001234"


def test_ptb_xl_rows_belong_to_their_record(tmp_path, samples):
    path = write_record(tmp_path / "records500" / "00000" / "00007_hr.hea", samples)
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,device,recording_date,scp_codes,strat_fold,filename_hr\n"
        "7,9182.0,300.0,1,CS-12,1984-11-09 09:17:34,{},3,records500/00000/00007_hr\n"
    )
    ecg = read_ptb_xl(path, tmp_path)
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.fold) == ("9182", 90.0, "F", 3)
    assert ecg.acquired_at.year == 1984


def test_the_first_line_of_georgia(tmp_path, samples):
    line = "E00271.mat 12 500 5000 05-May-2020 14:50:55"
    assert (read_wfdb(write_record(tmp_path / "E00271.hea", samples, first_line=line)).counts == samples).all()


def refused(path):
    with pytest.raises(Rejected) as rejected:
        read_wfdb(path)
    return rejected.value.reason


def test_every_way_to_be_refused(tmp_path, samples):
    def path(name):
        return tmp_path / f"{name}.hea"

    (tmp_path / "empty.hea").write_text("")
    assert refused(path("empty")) == RejectReason.EMPTY_FILE
    (tmp_path / "words.hea").write_text("these are words\n")
    assert refused(path("words")) == RejectReason.UNREADABLE
    assert refused(write_record(path("away"), samples, file="../../etc/passwd")) == RejectReason.OUTSIDE_FOLDER
    assert refused(write_record(path("few"), samples[:3], LEADS[:3])) == RejectReason.MISSING_LEADS
    write_record(path("lost"), samples).with_suffix(".dat").unlink()
    assert refused(path("lost")) == RejectReason.MISSING_SIGNAL_FILE
    write_record(path("short"), samples)
    samples[:, :100].T.tofile(path("short").with_suffix(".dat"))
    assert refused(path("short")) == RejectReason.WRONG_SAMPLE_COUNT
    changed = samples.copy()
    changed[0, 0] += 1
    write_record(path("flip"), samples)
    changed.T.tofile(path("flip").with_suffix(".dat"))
    assert refused(path("flip")) == RejectReason.CHECKSUM_MISMATCH
    holes = samples.copy()
    holes[4, 4] = -32768
    assert refused(write_record(path("nan"), holes)) == RejectReason.NOT_FINITE


def test_a_link_to_a_signal_elsewhere_is_refused(tmp_path, samples):
    outside = tmp_path / "outside.dat"
    samples.T.tofile(outside)
    header = write_record(tmp_path / "in" / "a.hea", samples)
    header.with_suffix(".dat").unlink()
    header.with_suffix(".dat").symlink_to(outside)
    assert refused(header) == RejectReason.OUTSIDE_FOLDER


def test_comments_are_read_by_key(shared):
    comments = read_header(shared / "data" / "cinc" / "a" / "A0374.hea").comments
    assert comments["dx"] == "164889003,59118001"


RATES = ["1e309", "nan", "inf", "-500", "0", "500.5"]
LINES = {
    "16": ["16x4", "16:9", "16+99999999999999999999", "212", "508", "\u0663", "16" * 3000],
    "1000.0(0)/mV": ["1e309/mV", "1000(99999999999999)/mV", "1000(-70000)/mV", "0.0/furlong", "1e-320/mV"],
    "a.dat": ["..", ".", "/etc/passwd", "a\0b", "x" * 300, "x" * 5000, "~", "-", "sub\\x"],
}


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_that_is_no_rate_is_refused(tmp_path, samples, rate):
    assert refused(write_record(tmp_path / "a.hea", samples, sampling_hz=rate)) == RejectReason.BAD_CALIBRATION


@pytest.mark.parametrize(("field", "by"), [(field, by) for field, others in LINES.items() for by in others])
def test_fields_that_no_reader_should_follow_are_refused(tmp_path, samples, field, by):
    path = write_record(tmp_path / "a.hea", samples)
    path.write_text(re.sub(rf"(?<!\S){re.escape(field)}(?!\S)", lambda found: by, path.read_text()))
    refused(path)


def test_a_signal_file_larger_than_is_allowed_is_not_read(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    with path.with_suffix(".dat").open("ab") as file:
        file.truncate(2**36)
    assert refused(path) == RejectReason.TOO_LARGE
    path.write_text("a 12 500 5000\n" + "# nothing\n" * 200_000)
    assert refused(path) == RejectReason.TOO_LARGE


def test_another_format_equals_what_wfdb_reads(tmp_path, samples):
    wfdb.wrsamp(
        "a",
        500,
        ["mV"] * 12,
        list(LEADS),
        d_signal=samples.T // 8,
        fmt=["212"] * 12,
        adc_gain=[200.0] * 12,
        baseline=[0] * 12,
        write_dir=str(tmp_path),
    )
    assert (read_wfdb(tmp_path / "a.hea").counts == samples // 8).all()


def test_a_table_that_changes_is_read_again(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    for age in (50, 66):
        (tmp_path / "ptbxl_database.csv").write_text(f"filename_hr,patient_id,scp_codes,age\na,1,{{}},{age}\n")
        assert read_ptb_xl(path, tmp_path).age_years == age


def test_rows_that_are_none_do_not_end_a_table(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    (tmp_path / "ptbxl_database.csv").write_bytes(
        b"filename_hr,patient_id,scp_codes,age,strat_fold\n"
        b"b\nb,1,2,3,4,5,6,7,8\n\n,,,,\n\xff\xfe,1\x00,{},,\nc," + b"9" * 200_000 + b",,\n"
        b"a,17.0,{},1e400,99999999999999999999\n"
    )
    ecg = read_ptb_xl(path, tmp_path)
    assert (ecg.patient_id, ecg.age_years, ecg.fold) == ("17", None, None)


def test_a_table_without_its_columns_says_so(tmp_path, samples):
    (tmp_path / "ptbxl_database.csv").write_text("filename_hr,age\na,1\n")
    with pytest.raises(ValueError, match=r"ptbxl_database.csv: no column patient_id, scp_codes"):
        read_ptb_xl(write_record(tmp_path / "a.hea", samples), tmp_path)
