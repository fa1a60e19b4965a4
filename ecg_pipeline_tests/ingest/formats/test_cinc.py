"""Records of the PhysioNet/CinC challenges: what the wfdb package reads, read alike."""

import numpy as np
import wfdb

from ecg_pipeline.ingest.formats.cinc import read_cinc
from ecg_pipeline_tests.ingest.conftest import read


def test_real_challenge_records_equal_what_wfdb_reads(shared):
    compared = refused_by_wfdb = 0
    for path in sorted((shared / "data" / "cinc").rglob("*.hea")):
        ecg = read(read_cinc, path)
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
    ecg = read(read_cinc, shared / "data" / "cinc" / "a" / "A0374.hea")
    assert (ecg.age_years, ecg.sex, ecg.patient_id) == (88.0, "F", "A0374")
