"""DICOM ECGs: the samples as pydicom reads them, nothing of the patient but what is needed, and hostile files."""

import random
import warnings
from contextlib import suppress
from datetime import datetime

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.formats.dicom import read_dicom
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline_tests.ingest.conftest import read, reason_of


@pytest.fixture
def sample(shared):
    return shared / "data" / "other_formats" / "dicom" / "anonymous_ecg.dcm"


@pytest.fixture
def changed(sample, tmp_path):
    """A function that writes the sample after a change, and gives its path."""

    def write(change, name="a.dcm", **options):
        found = pydicom.dcmread(sample)
        change(found)
        pydicom.dcmwrite(tmp_path / name, found, **options)
        return tmp_path / name

    return write


def test_a_real_file_equals_what_pydicom_reads(sample):
    ecg = read(read_dicom, sample)
    x_mv = ecg.counts * np.array(ecg.microvolts_per_count)[:, None] / 1000
    np.testing.assert_allclose(x_mv, pydicom.dcmread(sample).waveform_array(0).T / 1000, atol=1e-12)
    assert (ecg.leads, ecg.sampling_hz, ecg.counts.shape) == (LEADS, 1000, (12, 10_000))
    assert ecg.rounding_microvolts == 0
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.device) == ("642341", 42.0, "F", "el250")
    assert ecg.acquired_at == datetime(2013, 1, 25, 10, 59, 19)


def test_the_age_comes_from_the_birth_date_where_there_is_none(changed):
    def without_age(found):
        found.PatientAge = ""
        found.PatientBirthDate = "19710126"

    assert read(read_dicom, changed(without_age)).age_years == 41.0


def test_leads_are_told_by_either_code_and_put_in_order(changed, sample):
    def reordered(found):
        group = found.WaveformSequence[0]
        channels = list(group.ChannelDefinitionSequence)
        for channel in channels:
            source = channel.ChannelSourceSequence[0]
            source.CodeValue, source.CodingSchemeDesignator = source.CodeValue.replace("5.6.3-9-", "2:"), "MDC"
        group.ChannelDefinitionSequence = channels[::-1]
        samples = np.frombuffer(group.WaveformData, "<i2").reshape(-1, 12)
        group.WaveformData = np.ascontiguousarray(samples[:, ::-1]).tobytes()

    assert np.array_equal(read(read_dicom, changed(reordered)).counts, read(read_dicom, sample).counts)


def test_the_rhythm_is_the_original_not_the_median_beat(changed, sample):
    def turned(found):
        found.WaveformSequence = list(found.WaveformSequence)[::-1]

    assert np.array_equal(read(read_dicom, changed(turned)).counts, read(read_dicom, sample).counts)

    def derived(found):
        del found.WaveformSequence[0]

    assert reason_of(read_dicom, changed(derived)) == RejectReason.NO_RHYTHM_WAVEFORM


def first(keyword, value, of_channel=False):
    def change(found):
        group = found.WaveformSequence[0]
        setattr(group.ChannelDefinitionSequence[1] if of_channel else group, keyword, value)

    return change


def test_padding_is_no_sample_and_a_baseline_is_taken_off(changed, sample):
    count = read(read_dicom, sample).counts[3, 7]
    padding = int(count).to_bytes(2, "little", signed=True)
    padded = changed(lambda found: found.WaveformSequence[0].add_new("WaveformPaddingValue", "OW", padding))
    assert reason_of(read_dicom, padded) == RejectReason.NOT_FINITE
    moved = read(read_dicom, changed(first("ChannelBaseline", "12.5", of_channel=True)))
    assert np.array_equal(moved.counts[1], read(read_dicom, sample).counts[1] + 10)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda found: found.pop("WaveformSequence"), RejectReason.NOT_AN_ECG),
        (first("NumberOfWaveformSamples", 2**32 - 1), RejectReason.WRONG_SAMPLE_COUNT),
        (first("NumberOfWaveformSamples", 9_999), RejectReason.WRONG_SAMPLE_COUNT),
        (first("NumberOfWaveformChannels", 65_535), RejectReason.WRONG_SAMPLE_COUNT),
        (first("WaveformSampleInterpretation", "MB"), RejectReason.UNREADABLE),
        (first("WaveformBitsAllocated", 8), RejectReason.UNREADABLE),
        (first("SamplingFrequency", "0"), RejectReason.BAD_CALIBRATION),
        (first("SamplingFrequency", "333.3"), RejectReason.BAD_CALIBRATION),
        (first("ChannelSensitivity", "0", of_channel=True), RejectReason.BAD_CALIBRATION),
        (first("ChannelBaseline", "0.3", of_channel=True), RejectReason.BAD_CALIBRATION),
        (first("ChannelSampleSkew", "4", of_channel=True), RejectReason.BAD_CALIBRATION),
        (first("ChannelSensitivityUnitsSequence", [], of_channel=True), RejectReason.BAD_CALIBRATION),
        (first("ChannelSourceSequence", [Dataset()], of_channel=True), RejectReason.MISSING_LEADS),
    ],
)
def test_every_way_to_be_refused(changed, change, reason):
    assert reason_of(read_dicom, changed(change)) == reason


def test_a_file_that_would_grow_is_not_unpacked(changed, tmp_path):
    def deflated(found):
        found.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
        found.WaveformSequence[0].WaveformData = bytes(2**27)

    path = changed(deflated)
    assert path.stat().st_size < 2**20
    assert reason_of(read_dicom, path) == RejectReason.UNREADABLE
    (tmp_path / "large.dcm").write_bytes(path.read_bytes() + bytes(2**24))
    assert reason_of(read_dicom, tmp_path / "large.dcm") == RejectReason.TOO_LARGE
    (tmp_path / "text.dcm").write_text("no DICOM")
    assert reason_of(read_dicom, tmp_path / "text.dcm") == RejectReason.NOT_AN_ECG


def test_malformed_values_are_quoted_in_no_warning_and_no_log(changed, caplog):
    def malformed(found):
        found.PatientBirthDate = "PLANTED, 29 Feb 1940"
        found.PatientAge = "PLANTED"
        found.AcquisitionDateTime = "PLANTED"

    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        path = changed(malformed)
        raised.clear()
        caplog.clear()
        ecg = read(read_dicom, path)
    assert raised == []
    assert "PLANTED" not in caplog.text
    assert (ecg.age_years, ecg.acquired_at) == (None, datetime(2013, 1, 25, 10, 59, 19))


def test_no_damage_is_ever_more_than_a_reject(sample, tmp_path):
    whole = sample.read_bytes()
    for seed in range(60):
        chance, content = random.Random(seed), bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            content[chance.randrange(chance.choice([2000, 16_000, len(content)]))] = chance.randrange(256)
        (tmp_path / "a.dcm").write_bytes(content[: chance.choice([len(content), chance.randrange(len(content))])])
        with suppress(Rejected):
            read(read_dicom, tmp_path / "a.dcm")
