"""HL7 annotated ECGs: the samples as the file writes them, and what a file must not do."""

import random
import re
from contextlib import suppress
from datetime import datetime

import numpy as np
import pytest

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.hl7_aecg import read_hl7_aecg
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline_tests.ingest import conftest


@pytest.fixture(scope="module")
def example(shared):
    return (shared / "data" / "other_formats" / "hl7_aecg" / "Example_aECG.xml").read_text()


def written(tmp_path, text):
    path = tmp_path / "ecg.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(tmp_path, text):
    return conftest.read(read_hl7_aecg, written(tmp_path, text))


def reason_of(tmp_path, text):
    return conftest.reason_of(read_hl7_aecg, written(tmp_path, text))


def test_real_files_have_the_digits_of_their_rhythm(shared):
    files = sorted((shared / "data" / "other_formats" / "hl7_aecg").glob("*.xml"))
    assert len(files) == 7
    for path in files:
        ecg = conftest.read(read_hl7_aecg, path)
        rhythm = path.read_text().partition("<derivedSeries>")[0]
        digits = [np.array(found.split(), int) for found in re.findall(r"<digits>([^<]*)</digits>", rhythm)][:12]
        names = re.findall(r"MDC_ECG_LEAD_(\w+)", rhythm)[:12]
        by_lead = dict(zip(names, digits, strict=True))
        assert np.array_equal(ecg.counts, [by_lead[lead.upper()] for lead in LEADS])
        assert (ecg.leads, ecg.sampling_hz, set(ecg.microvolts_per_count)) == (LEADS, 500, {2.5})
        assert ecg.rounding_microvolts == 0


def test_what_a_file_says_of_its_subject(tmp_path, example):
    ecg = read(tmp_path, example)
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.device) == ("SBJ-123", 46.0, "M", "ELI250")
    assert ecg.acquired_at == datetime(2002, 11, 22, 9, 10)
    without_age = example.replace('value="46" unit="a"', 'value="unknown"')
    assert read(tmp_path, without_age).age_years == 49.0, "born 1953-05-08"
    nobody = re.sub(r"(?s)<trialSubject>.*?</trialSubject>", "", without_age)
    assert (read(tmp_path, nobody).patient_id, read(tmp_path, nobody).age_years) == (None, None)


def test_an_origin_that_is_a_number_of_counts_is_taken_off(tmp_path, example):
    counts = read(tmp_path, example).counts
    moved = example.replace('<origin value="0" unit="uV"/>', '<origin value="-0.01" unit="mV"/>')
    assert np.array_equal(read(tmp_path, moved).counts, counts - 4)
    assert reason_of(tmp_path, moved.replace("-0.01", "0.001")) == RejectReason.BAD_CALIBRATION


def test_every_way_to_be_refused(tmp_path, example):
    def first(old, new):
        return re.sub(old, new, example, count=1)

    bomb = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10 if n else "a" * 10}">' for n in range(10))
    cases = {
        RejectReason.EMPTY_FILE: ["", " \n"],
        RejectReason.UNREADABLE: [example[:-400], "note", example.encode("utf-16"), example.replace("utf-8", "utf-7")],
        RejectReason.FORBIDDEN_XML: [
            first("<AnnotatedECG", f"<!DOCTYPE AnnotatedECG [{bomb}]><AnnotatedECG"),
            first("<AnnotatedECG", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><AnnotatedECG'),
            first("<AnnotatedECG", '<!DOCTYPE a [<!entity % x SYSTEM "http://localhost/x"> %x;]><AnnotatedECG'),
        ],
        RejectReason.NOT_AN_ECG: ["<RestingECG/>", '<AnnotatedECG xmlns="urn:another"/>'],
        RejectReason.NO_RHYTHM_WAVEFORM: [
            first('code="RHYTHM"', 'code="OTHER"'),
            '<AnnotatedECG xmlns="urn:hl7-org:v3"/>',
        ],
        RejectReason.MISSING_LEADS: [first("MDC_ECG_LEAD_V3", "MDC_ECG_LEAD_V9")],
        RejectReason.BAD_ENCODING: [
            first("<digits> -2", "<digits> -2.5"),
            first("<digits> -2", "<digits> x" + "9" * 40),
        ],
        RejectReason.WRONG_SAMPLE_COUNT: [first("<digits> -2", "<digits> -2 -2")],
        RejectReason.BAD_CALIBRATION: [
            first("<digits> -2", "<digits> 99999"),
            first('scale value="2.5"', 'scale value="0"'),
            first('scale value="2.5"', 'scale value="nan"'),
            first('scale value="2.5" unit="uV"', 'scale value="2.5" unit="mm"'),
            first('increment value="0.002"', 'increment value="0"'),
            first('increment value="0.002"', 'increment value="0.0021"'),
            first("<increment[^>]*>", ""),
        ],
        RejectReason.TOO_LARGE: [
            first("<pertainsTo>", "<a/>" * 250_000 + "<pertainsTo>"),
            first("<digits> -2", "<digits> " + "1 " * 2_200_000),
        ],
    }
    for reason, texts in cases.items():
        for text in texts:
            assert reason_of(tmp_path, text) == reason


def test_the_dtd_that_a_doctype_names_is_never_fetched(tmp_path, example):
    (tmp_path / "a.dtd").write_text("<!ELEMENT a ANY>")
    text = example.replace("<AnnotatedECG", '<!DOCTYPE AnnotatedECG SYSTEM "a.dtd"><AnnotatedECG', 1)
    assert np.array_equal(read(tmp_path, text).counts, read(tmp_path, example).counts)


def test_no_damage_is_ever_more_than_a_reject(tmp_path, example):
    whole = example.encode()
    for seed in range(100):
        chance, content = random.Random(seed), bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            place = chance.randrange(chance.choice([12_000, len(content)]))
            content[place : place + chance.choice([0, 1, 1, 300])] = bytes([chance.randrange(256)])
        with suppress(Rejected):
            read(tmp_path, bytes(content))
