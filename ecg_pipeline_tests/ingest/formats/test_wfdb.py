"""WFDB headers and signals: what the wfdb package reads, read alike, and bad ones refused."""

import re

import pytest
import wfdb

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.wfdb import read_header, read_wfdb
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline_tests.ingest.conftest import read, reason_of, write_record


def test_the_first_line_of_georgia(tmp_path, samples):
    line = "E00271.mat 12 500 5000 05-May-2020 14:50:55"
    assert (read(read_wfdb, write_record(tmp_path / "E00271.hea", samples, first_line=line)).counts == samples).all()


def refused(path):
    return reason_of(read_wfdb, path)


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
    assert (read(read_wfdb, tmp_path / "a.hea").counts == samples // 8).all()


@pytest.mark.parametrize("baseline", [0, 7])
def test_an_invalid_sample_is_seen_whatever_the_baseline(tmp_path, samples, baseline):
    samples[4, 4] = -32768
    path = write_record(tmp_path / "a.hea", samples)
    path.write_text(path.read_text().replace("(0)", f"({baseline})"))
    assert refused(path) == RejectReason.NOT_FINITE


def test_the_baseline_is_taken_off(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    path.write_text(path.read_text().replace("(0)", "(-7)"))
    assert (read(read_wfdb, path).counts == samples + 7).all()
