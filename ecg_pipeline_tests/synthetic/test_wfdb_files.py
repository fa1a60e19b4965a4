from pathlib import Path

import numpy as np
import wfdb
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.wfdb import read_wfdb
from ecg_pipeline.synthetic.wfdb_files import twelve_leads, write_wfdb

independent_mv = arrays(float, (8, 20), elements=st.floats(-5, 5))


@given(independent_mv)
def test_limb_leads_obey_einthoven_and_goldberger_to_a_count(x_mv: np.ndarray) -> None:
    one, two, three, avr, avl, avf = twelve_leads(x_mv)[:6].astype(int)
    assert np.abs(one + three - two).max() <= 2
    assert np.abs(avr + avl + avf).max() <= 2
    assert np.abs(2 * avl - (one - three)).max() <= 3


def test_wfdb_reads_what_was_written_with_the_same_checksums(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(-3000, 3000, (12, 5000)).astype(np.int16)
    write_wfdb(tmp_path / "records" / "00001_hr.hea", counts, 500)
    record = wfdb.rdrecord(str(tmp_path / "records" / "00001_hr"), physical=False)
    assert isinstance(record, wfdb.Record)
    assert record.d_signal is not None
    assert record.checksum is not None
    np.testing.assert_array_equal(record.d_signal.T, counts)
    assert [total % 65536 for total in record.checksum] == [total % 65536 for total in record.calc_checksum() or []]
    assert record.fs == 500
    file = EcgFile(tmp_path / "records" / "00001_hr.hea", tmp_path)
    np.testing.assert_array_equal(read_wfdb(file).counts, counts)


def test_a_header_looks_like_one_of_ptb_xl(tmp_path: Path) -> None:
    write_wfdb(tmp_path / "00001_hr.hea", np.full((12, 10), -3, np.int16), 500)
    first, line = (tmp_path / "00001_hr.hea").read_text().splitlines()[:2]
    assert first == "00001_hr 12 500 10"
    assert line == "00001_hr.dat 16 1000.0(0)/mV 16 0 -3 -30 0 I"
