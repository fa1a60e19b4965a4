"""Records of the PhysioNet/CinC challenges: what the wfdb package reads, read alike."""

import csv
from collections import Counter

import numpy as np
import wfdb

from ecg_pipeline.ingest.formats.cinc import CPSC_TEXTS, EQUAL_CODES, cinc_statements, read_cinc
from ecg_pipeline.ingest.formats.wfdb import read_header
from ecg_pipeline_tests.ingest.conftest import read, write_record


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


def stated(folder):
    files = [(path.name, path) for path in sorted(folder.rglob("*.hea"))]
    skipped = Counter()
    found = list(cinc_statements(folder, files, skipped))
    assert not skipped
    return Counter(one.code for one in found)


def test_cpsc_2018s_texts_are_codes(shared):
    folder = shared / "data" / "cinc" / "cpsc2018"
    texts = Counter(
        text for path in folder.glob("*.hea") for text in read_header(path).comments["dx"].replace(" ", "").split(",")
    )
    assert set(texts) == set(CPSC_TEXTS)
    assert stated(folder) == {CPSC_TEXTS[text]: count for text, count in texts.items()}


def test_codes_that_the_challenge_scores_as_one_are_one(shared, tmp_path, samples):
    with (shared / "data" / "snomed_maps" / "weights.csv").open(newline="") as file:
        equal = [set(column.split("|")) for column in next(csv.reader(file)) if "|" in column]
    assert len(equal) == 4
    for one in equal:
        assert len({EQUAL_CODES.get(code, code) for code in one}) == 1
    write_record(tmp_path / "a.hea", samples).open("a").write("#Dx: 713427006, 59118001,164884008,PVC,1\n")
    assert stated(tmp_path) == {"59118001": 1, "427172004": 1, "1": 1}
    assert not set(EQUAL_CODES) & (set(EQUAL_CODES.values()) | set(CPSC_TEXTS.values()))
    assert not set(EQUAL_CODES) & set(stated(shared / "data" / "cinc"))
