"""WFDB records: real ones equal what the wfdb package reads, bad ones are refused."""

import numpy as np
import pytest
import wfdb

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.records.rejects import Rejected, RejectReason
from ecg_pipeline.records.wfdb_records import read_cinc, read_header, read_mimic_iv_ecg, read_ptb_xl, read_wfdb

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")


def write(path, samples, leads=LEADS, file=None, sampling_hz=500, first_line=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples.T.astype("<i2").tofile(path.with_suffix(".dat"))
    lines = [first_line or f"{path.stem} {len(leads)} {sampling_hz} {samples.shape[1]}"]
    for lead, row in zip(leads, samples, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        lines.append(f"{file or path.stem + '.dat'} 16 1000.0(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def samples():
    return np.random.default_rng(1).integers(-2000, 2000, (12, 5000)).astype(np.int16)


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
    path = write(tmp_path / "files" / "p1000" / "p10001234" / "s4000" / "4000.hea", samples, MIMIC_LEADS)
    ecg = read_mimic_iv_ecg(path)
    assert ecg.leads == LEADS
    assert (ecg.counts[LEADS.index("aVF")] == samples[MIMIC_LEADS.index("aVF")]).all()
    assert ecg.patient_id == "10001234"


def test_ptb_xl_rows_belong_to_their_record(tmp_path, samples):
    path = write(tmp_path / "records500" / "00000" / "00007_hr.hea", samples)
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,device,recording_date,scp_codes,strat_fold,filename_hr\n"
        "7,9182.0,300.0,1,CS-12,1984-11-09 09:17:34,{},3,records500/00000/00007_hr\n"
    )
    ecg = read_ptb_xl(path, tmp_path)
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.fold) == ("9182", 90.0, "F", 3)
    assert ecg.acquired_at.year == 1984


def test_the_first_line_of_georgia(tmp_path, samples):
    line = "E00271.mat 12 500 5000 05-May-2020 14:50:55"
    assert (read_wfdb(write(tmp_path / "E00271.hea", samples, first_line=line)).counts == samples).all()


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
    assert refused(write(path("away"), samples, file="../../etc/passwd")) == RejectReason.OUTSIDE_FOLDER
    assert refused(write(path("few"), samples[:3], LEADS[:3])) == RejectReason.MISSING_LEADS
    write(path("lost"), samples).with_suffix(".dat").unlink()
    assert refused(path("lost")) == RejectReason.MISSING_SIGNAL_FILE
    write(path("short"), samples)
    samples[:, :100].T.tofile(path("short").with_suffix(".dat"))
    assert refused(path("short")) == RejectReason.WRONG_SAMPLE_COUNT
    changed = samples.copy()
    changed[0, 0] += 1
    write(path("flip"), samples)
    changed.T.tofile(path("flip").with_suffix(".dat"))
    assert refused(path("flip")) == RejectReason.CHECKSUM_MISMATCH
    holes = samples.copy()
    holes[4, 4] = -32768
    assert refused(write(path("nan"), holes)) == RejectReason.NOT_FINITE


def test_a_link_to_a_signal_elsewhere_is_refused(tmp_path, samples):
    outside = tmp_path / "outside.dat"
    samples.T.tofile(outside)
    header = write(tmp_path / "in" / "a.hea", samples)
    header.with_suffix(".dat").unlink()
    header.with_suffix(".dat").symlink_to(outside)
    assert refused(header) == RejectReason.OUTSIDE_FOLDER


def test_comments_are_read_by_key(shared):
    comments = read_header(shared / "data" / "cinc" / "a" / "A0374.hea").comments
    assert comments["dx"] == "164889003,59118001"
