"""Writes RestingECG XML as a GE MUSE system exports it: element order, encodings and oddities follow real exports.

A file holds a median beat and the rhythm strip of eight leads, base64 of little-endian int16 at 4.88 microvolts a
count with a CRC-32 a lead, and free text in which `&` may be unescaped.
"""

import base64
import zlib
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.synthetic.heart import MEDIAN_R_SECONDS, Measurements

MICROVOLTS_PER_COUNT = 4.88
LINE_CHARACTERS = 68
"""Width of a line of base64 in real exports."""


@dataclass(frozen=True)
class Patient:
    """An invented patient as a hospital's systems know one; no field of it may leave the hospital."""

    mrn: str
    last_name: str
    first_name: str
    birth_date: str
    sex: str


@dataclass(frozen=True)
class Exporter:
    """A hospital's MUSE system: what its exports say of themselves, and what depends on its version.

    physician: last and first name of who reads the ECGs. rhythm_first: the rhythm strip comes before the median beat.
    signed_checksums: CRC-32 as a signed number.
    """

    site_number: int
    site_name: str
    version: str
    device: str
    physician: tuple[str, str]
    rhythm_first: bool = False
    signed_checksums: bool = False


@dataclass(frozen=True, eq=False)
class MuseEcg:
    """What one export holds. Counts are (L, T) int16 for `leads`; `median` is (L, 1.2 s), `rhythm` the whole strip.

    patient_id: as the file gives it: the MRN, a masked one, or None where the element is missing.
    r_times_ms and premature: the beats within the strip. statements: of the cart; one that begins with "with" goes on
    in the line before. typed: sentences that a person inserted.
    """

    exporter: Exporter
    patient: Patient
    patient_id: str | None
    age_years: int
    acquired_at: datetime
    sampling_hz: int
    median: NDArray[np.int16]
    rhythm: NDArray[np.int16]
    r_times_ms: tuple[int, ...]
    premature: tuple[bool, ...]
    measurements: Measurements
    statements: tuple[str, ...]
    typed: tuple[str, ...] = ()
    leads: tuple[str, ...] = INDEPENDENT_LEADS
    escaped: bool = True


def to_counts(x_mv: NDArray[np.float64]) -> NDArray[np.int16]:
    """Millivolts to counts of 4.88 microvolts, same shape."""
    return np.rint(x_mv * 1000 / MICROVOLTS_PER_COUNT).clip(-32767, 32767).astype(np.int16)


def muse_xml(ecg: MuseEcg) -> bytes:
    """The export as the bytes of a file, ISO-8859-1."""
    exporter, patient, stamp = ecg.exporter, ecg.patient, ecg.acquired_at
    waveforms = [_waveform("Median", ecg.median, ecg), _waveform("Rhythm", ecg.rhythm, ecg)]
    lines = [
        '<?xml version="1.0" encoding="ISO-8859-1"?>',
        '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">',
        *_element(
            "RestingECG",
            *_element("MuseInfo", _text("MuseVersion", exporter.version)),
            *_element(
                "PatientDemographics",
                *([_text("PatientID", ecg.patient_id)] if ecg.patient_id is not None else []),
                _text("PatientAge", ecg.age_years),
                _text("AgeUnits", "YEARS"),
                _text("DateofBirth", patient.birth_date),
                _text("Gender", {"M": "MALE", "F": "FEMALE"}[patient.sex]),
                _text("PatientLastName", patient.last_name),
                _text("PatientFirstName", patient.first_name),
            ),
            *_element(
                "TestDemographics",
                _text("DataType", "RESTING"),
                _text("Site", exporter.site_number),
                _text("SiteName", exporter.site_name),
                _text("AcquisitionDevice", exporter.device),
                _text("Status", "CONFIRMED"),
                _text("EditListStatus", "Confirmed"),
                _text("Priority", "NORMAL"),
                _text("AcquisitionTime", stamp.strftime("%H:%M:%S")),
                _text("AcquisitionDate", stamp.strftime("%m-%d-%Y")),
                _text("AnalysisSoftwareVersion", 241),
                _text("OverreaderLastName", exporter.physician[0]),
                _text("OverreaderFirstName", exporter.physician[1]),
                _text("HISStatus", 0),
            ),
            *_element("RestingECGMeasurements", *_measurements(ecg)),
            *_element("OriginalRestingECGMeasurements", *_measurements(ecg)),
            *_element("Diagnosis", _text("Modality", "RESTING"), *_statements(ecg)),
            *_element("OriginalDiagnosis", _text("Modality", "RESTING"), *_statements(ecg)),
            *_element("QRSTimesTypes", *_beats(ecg)),
            *(line for waveform in (reversed(waveforms) if exporter.rhythm_first else waveforms) for line in waveform),
            *_element(
                "PharmaData",
                _text("PharmaRRinterval", round(60_000 / ecg.measurements.rate_bpm)),
                _text("PharmaUniqueECGID", f"SYN{exporter.site_number:08d}PA{stamp:%d%m%Y%H%M%S}"),
                _text("PharmaPPinterval", round(60_000 / ecg.measurements.rate_bpm)),
                _text("PharmaCartID", f"SYN{exporter.site_number:08d}PA"),
            ),
        ),
    ]
    return ("\n".join(lines) + "\n").encode("iso-8859-1")


def _waveform(kind: str, counts: NDArray[np.int16], ecg: MuseEcg) -> list[str]:
    leads = (
        line
        for lead, samples in zip(ecg.leads, counts, strict=True)
        for line in _lead(lead, samples, ecg.exporter.signed_checksums)
    )
    return _element(
        "Waveform",
        _text("WaveformType", kind),
        _text("WaveformStartTime", 0),
        _text("NumberofLeads", len(ecg.leads)),
        _text("SampleType", "CONTINUOUS_SAMPLES"),
        _text("SampleBase", ecg.sampling_hz),
        _text("SampleExponent", 0),
        _text("HighPassFilter", 16),
        _text("LowPassFilter", 150),
        _text("ACFilter", 60),
        *leads,
    )


def _lead(lead: str, samples: NDArray[np.int16], signed_checksum: bool) -> list[str]:
    content = samples.astype("<i2").tobytes()
    checksum = zlib.crc32(content)
    if signed_checksum and checksum >= 2**31:
        checksum -= 2**32
    encoded = base64.b64encode(content).decode()
    return _element(
        "LeadData",
        _text("LeadByteCountTotal", len(content)),
        _text("LeadTimeOffset", 0),
        _text("LeadSampleCountTotal", len(samples)),
        _text("LeadAmplitudeUnitsPerBit", MICROVOLTS_PER_COUNT),
        _text("LeadAmplitudeUnits", "MICROVOLTS"),
        _text("LeadHighLimit", 32767),
        _text("LeadLowLimit", -32768),
        _text("LeadID", lead),
        _text("LeadOffsetFirstSample", 0),
        _text("FirstSampleBaseline", 0),
        _text("LeadSampleSize", 2),
        _text("LeadOff", "FALSE"),
        _text("BaselineSway", "FALSE"),
        _text("LeadDataCRC32", checksum),
        "<WaveFormData>",
        "\n".join(encoded[at : at + LINE_CHARACTERS] for at in range(0, len(encoded), LINE_CHARACTERS)),
        "</WaveFormData>",
    )


def _measurements(ecg: MuseEcg) -> list[str]:
    """Onsets are samples of a 500 Hz median beat, whatever the rate of the waveforms, as in real exports."""
    values = ecg.measurements
    onsets = (values.q_onset_ms, values.q_offset_ms, values.p_onset_ms, values.q_onset_ms - 20, values.t_offset_ms)
    samples = [round((MEDIAN_R_SECONDS + onset / 1000) * 500) for onset in onsets]
    return [
        _text("VentricularRate", values.rate_bpm),
        _text("AtrialRate", values.rate_bpm),
        _text("PRInterval", values.pr_ms),
        _text("QRSDuration", values.qrs_ms),
        _text("QTInterval", values.qt_ms),
        _text("QTCorrected", round(values.qt_ms * (values.rate_bpm / 60) ** 0.5)),
        _text("PAxis", values.p_axis),
        _text("RAxis", values.r_axis),
        _text("TAxis", values.t_axis),
        _text("QRSCount", len(ecg.r_times_ms)),
        *map(_text, ("QOnset", "QOffset", "POnset", "POffset", "TOffset"), samples),
        _text("ECGSampleBase", 500),
        _text("ECGSampleExponent", 0),
        _text("QTcFrederica", round(values.qt_ms * (values.rate_bpm / 60) ** (1 / 3))),
    ]


def _statements(ecg: MuseEcg) -> list[str]:
    """The cart's statements, and after them what was typed, each with its flags."""
    goes_on = [statement.startswith("with ") for statement in (*ecg.statements[1:], "")]
    said = [(text, () if more else ("ENDSLINE",)) for text, more in zip(ecg.statements, goes_on, strict=True)]
    said += [(text, ("ENDSLINE", "USERINSERT")) for text in ecg.typed]
    return [
        line
        for text, flags in said
        for line in _element(
            "DiagnosisStatement",
            *(_text("StmtFlag", flag) for flag in flags),
            _text("StmtText", text.replace("&", "&amp;") if ecg.escaped else text),
        )
    ]


def _beats(ecg: MuseEcg) -> list[str]:
    beats = (
        line
        for number, (time_ms, odd) in enumerate(zip(ecg.r_times_ms, ecg.premature, strict=True), start=1)
        for line in _element("QRS", _text("Number", number), _text("Type", int(odd)), _text("Time", time_ms))
    )
    return [*beats, _text("GlobalRR", round(60_000 / ecg.measurements.rate_bpm))]


def _text(name: str, value: object) -> str:
    return f"<{name}>{value}</{name}>"


def _element(name: str, *lines: str) -> list[str]:
    """An element around lines, which are indented as MUSE does: all but base64."""
    return [f"<{name}>", *(f"   {line}" if line.lstrip().startswith("<") else line for line in lines), f"</{name}>"]
