"""GE MUSE exports, real and altered."""

import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.ingest.formats.muse_xml import read_muse_xml
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline_tests.ingest import conftest
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml


def written(tmp_path, text, encoding="iso-8859-1"):
    path = tmp_path / "ecg.xml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def read(tmp_path, text):
    return conftest.read(read_muse_xml, written(tmp_path, text))


def reason_of(tmp_path, text):
    return conftest.reason_of(read_muse_xml, written(tmp_path, text))


def test_real_exports(shared):
    files = sorted((shared / "data" / "muse_xml").glob("*.xml"))
    assert len(files) == 6
    for path in files:
        ecg = conftest.read(read_muse_xml, path)
        assert ecg.leads == INDEPENDENT_LEADS
        assert (ecg.sampling_hz, ecg.counts.shape) == (500, (8, 5000))
        assert set(ecg.microvolts_per_count) == {4.88}
        peak_mv = np.abs(ecg.counts).max() * 4.88 / 1000
        assert 0.3 < peak_mv < 6


@settings(max_examples=20, deadline=None)
@given(rhythm=hnp.arrays(np.int16, (8, 40), elements=st.integers(-32767, 32767)), order=st.permutations(range(8)))
def test_counts_come_back_whatever_the_order_of_the_leads(rhythm, order, tmp_path_factory):
    leads = [INDEPENDENT_LEADS[place] for place in order]
    text = export_xml(waveform_xml("Rhythm", rhythm[list(order)], leads))
    ecg = read(tmp_path_factory.mktemp("x"), text)
    assert ecg.leads == INDEPENDENT_LEADS
    assert (ecg.counts == rhythm).all()


@pytest.mark.parametrize("rhythm_first", [True, False])
def test_the_rhythm_strip_is_found_by_type_not_by_place(tmp_path, counts, rhythm_first):
    both = [waveform_xml("Rhythm", counts), waveform_xml("Median", counts[:, :600] + 1)]
    ecg = read(tmp_path, export_xml("".join(both if rhythm_first else reversed(both))))
    assert (ecg.counts == counts).all()


@pytest.mark.parametrize(("base", "exponent", "rate"), [("500", "0", 500), ("250", "0", 250), ("5", "2", 500)])
def test_the_rate_is_base_times_a_power_of_ten(tmp_path, counts, base, exponent, rate):
    assert read(tmp_path, export_xml(waveform_xml("Rhythm", counts, base=base, exponent=exponent))).sampling_hz == rate


@pytest.mark.parametrize("text", ["A & B", "QT < 400 & > 350", "AT&T; caf\xe9", "&nbsp;"])
def test_free_text_is_not_escaped_in_real_exports(tmp_path, counts, text):
    assert (read(tmp_path, export_xml(waveform_xml("Rhythm", counts), text=text)).counts == counts).all()


def test_latin_letters_in_a_file_that_claims_utf_8(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts), text="m\xfcde").replace("ISO-8859-1", "UTF-8")
    assert (read(tmp_path, text).counts == counts).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("<WaveFormData>", "<WaveFormData >"),
        lambda text: text.replace("<WaveFormData>", "<WaveFormData><!-- here -->", 1),
        lambda text: text.replace("<Waveform>", "<!--<WaveFormData>AAAA</WaveFormData>--><Waveform>", 1),
        lambda text: text.replace("Sinus rhythm", "<![CDATA[<WaveFormData>AAAA</WaveFormData>]]>"),
        lambda text: text.replace("Sinus rhythm", "Sinus \x7f0 rhythm"),
        lambda text: text.replace("\n", "\r\n \t"),
    ],
)
def test_waveforms_are_found_whatever_surrounds_them(tmp_path, counts, change):
    text = change(export_xml(waveform_xml("Median", counts[:, :600] // 2) + waveform_xml("Rhythm", counts)))
    assert np.array_equal(read(tmp_path, text).counts, counts)


def test_a_number_of_what_was_cut_is_no_waveform(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts, encoded="\x7f0"))
    assert reason_of(tmp_path, text) == RejectReason.BAD_ENCODING


def test_a_signed_checksum_is_a_checksum(tmp_path, counts):
    crc = zlib.crc32(counts[0].astype("<i2").tobytes())
    text = export_xml(waveform_xml("Rhythm", counts)).replace(str(crc), str(crc - 2**32))
    assert (read(tmp_path, text).counts == counts).all()


def test_the_dtd_that_a_doctype_names_is_never_fetched(tmp_path, counts):
    (tmp_path / "restecg.dtd").write_text('<!ENTITY stolen SYSTEM "file:///etc/hostname">')
    head = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">\n'
    assert (read(tmp_path, export_xml(waveform_xml("Rhythm", counts), head=head)).counts == counts).all()


@pytest.mark.parametrize("masked", ["", "XXXXXXX", "000000", "*****", "MASKED", "unknown", "Anonymous", "n/a"])
def test_a_masked_patient_is_no_patient(tmp_path, counts, masked):
    text = export_xml(waveform_xml("Rhythm", counts), patient=f"<PatientID>{masked}</PatientID>")
    assert read(tmp_path, text).patient_id is None


def test_without_demographics(tmp_path, counts):
    ecg = read(tmp_path, export_xml(waveform_xml("Rhythm", counts), patient=""))
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.acquired_at) == (None, None, None, None)


BOMB = '<!DOCTYPE RestingECG [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>'
EXTERNAL = '<!DOCTYPE RestingECG [<!ENTITY x SYSTEM "file:///etc/hostname">]>'


def test_every_way_to_be_refused(tmp_path, counts):
    good = export_xml(waveform_xml("Rhythm", counts))
    holes = counts.copy()
    holes[2, 7] = -32768
    cases = {
        RejectReason.EMPTY_FILE: ["", "  \n"],
        RejectReason.UNREADABLE: [good[:-200], "note to self", good.encode("utf-16")],
        RejectReason.FORBIDDEN_XML: [
            export_xml(waveform_xml("Rhythm", counts), head=head) for head in (BOMB, EXTERNAL, BOMB.lower())
        ],
        RejectReason.NOT_AN_ECG: ["<Worklist/>"],
        RejectReason.NO_RHYTHM_WAVEFORM: [export_xml(waveform_xml("Median", counts)), export_xml("")],
        RejectReason.MISSING_LEADS: [export_xml(waveform_xml("Rhythm", counts[:5], INDEPENDENT_LEADS[:5]))],
        RejectReason.BAD_ENCODING: [export_xml(waveform_xml("Rhythm", counts, encoded="!!!!"))],
        RejectReason.WRONG_SAMPLE_COUNT: [export_xml(waveform_xml("Rhythm", counts, count=4999))],
        RejectReason.CHECKSUM_MISMATCH: [export_xml(waveform_xml("Rhythm", counts, crc=1))],
        RejectReason.BAD_CALIBRATION: [
            export_xml(waveform_xml("Rhythm", counts, **wrong))
            for wrong in ({"scale": "many"}, {"scale": "0"}, {"scale": "nan"}, {"base": "0"}, {"exponent": "1e9"})
        ],
        RejectReason.NOT_FINITE: [export_xml(waveform_xml("Rhythm", holes))],
    }
    for reason, texts in cases.items():
        for text in texts:
            assert reason_of(tmp_path, text) == reason


@pytest.mark.parametrize("baseline", [0, 7])
def test_an_invalid_sample_is_seen_whatever_the_baseline(tmp_path, counts, baseline):
    counts[2, 7] = -32768
    text = export_xml(waveform_xml("Rhythm", counts))
    text = text.replace("</LeadID>", f"</LeadID><FirstSampleBaseline>{baseline}</FirstSampleBaseline>")
    assert reason_of(tmp_path, text) == RejectReason.NOT_FINITE


def test_the_baseline_is_taken_off(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    text = text.replace("</LeadID>", "</LeadID><FirstSampleBaseline>7</FirstSampleBaseline>")
    assert (read(tmp_path, text).counts == counts - 7).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_damage_is_ever_more_than_a_reject(data, tmp_path_factory):
    counts = np.arange(8 * 20, dtype=np.int16).reshape(8, 20)
    content = bytearray(export_xml(waveform_xml("Rhythm", counts)).encode())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(Rejected):
        read(tmp_path_factory.mktemp("x"), bytes(content))
