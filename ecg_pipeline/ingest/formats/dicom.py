"""DICOM waveforms: 12-lead and general ECG, whose samples are counts of 16 bits.

DICOM PS3.3 C.10.9. The rhythm is the first original multiplex group; derived groups are median beats. Leads are told
by their SCP-ECG or ISO/IEEE 11073 code. Nothing of the patient but number, sex and age is taken; a birth date gives the
age where there is none, and is left behind.

Files are little-endian and not compressed: a compressed one may be of any size when it is unpacked.
"""

import re
import warnings
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import Ecg
from ecg_pipeline.ingest.checks import INVALID_SAMPLE, standard_leads, whole_hz
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.samples import whole_baseline, without_baseline
from ecg_pipeline.ingest.formats.values import to_float, to_time, years_between
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_bytes

if TYPE_CHECKING:
    from pydicom import Dataset

NATIVE = {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1"}
"""Transfer syntaxes: implicit and explicit little-endian."""

TAGS = [
    *("PatientID", "PatientSex", "PatientAge", "PatientBirthDate"),
    *("AcquisitionDateTime", "ContentDate", "ContentTime", "ManufacturerModelName", "WaveformSequence"),
]
LEAD_NUMBERS = {
    **{"1": "I", "2": "II", "3": "V1", "4": "V2", "5": "V3", "6": "V4", "7": "V5", "8": "V6"},
    **{"61": "III", "62": "aVR", "63": "aVL", "64": "aVF"},
}
MICROVOLTS = {"uv": 1.0, "mv": 1000.0, "v": 1e6, "nv": 0.001}
YEARS = {"Y": 1.0, "M": 1 / 12, "W": 1 / 52.18, "D": 1 / 365.25}
MAX_BYTES = 8 * 2**20
"""Limit of a file: its elements take up to a hundred times as much when they are parsed. An ECG has a megabyte."""

_LEAD_CODE = re.compile(r"(?:5\.6\.3-9-|2:)(\d+)")
_AGE = re.compile(r"(\d{1,3})([YMWD])")
_FAULTS = (ValueError, KeyError, AttributeError, TypeError, IndexError, RuntimeError, OverflowError, OSError, EOFError)
"""What pydicom raises for damaged files, beside errors of its own."""


def read_dicom(file: EcgFile) -> Ecg:
    """Read the rhythm of one DICOM ECG; see `format.Reader`."""
    from pydicom.config import disable_value_validation
    from pydicom.errors import BytesLengthException, InvalidDicomError

    if file.path.stat().st_size > MAX_BYTES:
        raise Rejected(RejectReason.TOO_LARGE, "longer than an ECG")
    # Read whole, so that an OSError further on is pydicom's about damage, and not the disk's.
    content = file.path.read_bytes()
    # Warnings about malformed values quote them.
    with warnings.catch_warnings(action="ignore"), disable_value_validation():
        try:
            return _ecg(file.path, content)
        except InvalidDicomError:
            raise Rejected(RejectReason.NOT_AN_ECG, "not a DICOM file") from None
        except (*_FAULTS, BytesLengthException):
            raise Rejected(RejectReason.UNREADABLE, "damaged DICOM") from None


def _ecg(path: Path, content: bytes) -> Ecg:
    from pydicom import dcmread
    from pydicom.filereader import read_file_meta_info

    if content[128:132] != b"DICM":
        raise Rejected(RejectReason.NOT_AN_ECG, "not a DICOM file")
    if str(read_file_meta_info(path).get("TransferSyntaxUID")) not in NATIVE:
        raise Rejected(RejectReason.UNREADABLE, "a transfer syntax that is not read")
    found = dcmread(BytesIO(content), specific_tags=TAGS)
    group = _rhythm(found)
    channels = {lead: row for row, channel in enumerate(group.ChannelDefinitionSequence) if (lead := _lead(channel))}
    leads = standard_leads(channels)
    digital = _digital(group)
    counts, scales = np.empty((len(leads), digital.shape[1]), np.int16), []
    for place, lead in enumerate(leads):
        scale, baseline = _calibration(group.ChannelDefinitionSequence[channels[lead]], lead)
        counts[place] = without_baseline(digital[channels[lead]], baseline)
        scales.append(scale)
    acquired_at = _time(_text(found, "AcquisitionDateTime")) or _time(
        _text(found, "ContentDate") + _text(found, "ContentTime")
    )
    return Ecg(
        counts,
        leads,
        tuple(scales),
        whole_hz(to_float(_text(group, "SamplingFrequency")) or 0.0),
        sha256_bytes(content),
        patient_id=known_id(_text(found, "PatientID")),
        acquired_at=acquired_at,
        age_years=_age(_text(found, "PatientAge"))
        or years_between(to_time(_text(found, "PatientBirthDate"), "%Y%m%d"), acquired_at),
        sex={"M": "M", "F": "F"}.get(_text(found, "PatientSex").upper()),
        device=_text(found, "ManufacturerModelName") or None,
    )


def _rhythm(found: "Dataset") -> "Dataset":
    groups = found.get("WaveformSequence")
    if not groups:
        raise Rejected(RejectReason.NOT_AN_ECG, "no waveforms")
    for group in groups:
        if _text(group, "WaveformOriginality").upper() == "ORIGINAL":
            return group
    raise Rejected(RejectReason.NO_RHYTHM_WAVEFORM)


def _digital(group: "Dataset") -> NDArray[np.int16]:
    """The samples (channels, T) as stored; padding is `INVALID_SAMPLE`."""
    if (group.WaveformBitsAllocated, group.WaveformSampleInterpretation) != (16, "SS"):
        raise Rejected(RejectReason.UNREADABLE, "samples that are not of 16 bits")
    channels, samples = len(group.ChannelDefinitionSequence), group.NumberOfWaveformSamples
    content: Any = group.WaveformData
    if group.NumberOfWaveformChannels != channels or len(content) != 2 * channels * samples:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"{len(content) // 2} samples of {channels} channels")
    digital = np.frombuffer(content, "<i2").reshape(samples, channels).T
    padding: Any = group.get("WaveformPaddingValue")
    if padding is None:
        return digital
    return np.where(digital == np.frombuffer(padding[:2], "<i2"), INVALID_SAMPLE, digital).astype(np.int16)


def _lead(channel: "Dataset") -> str | None:
    """The standard lead of a channel, by the code of its source."""
    source = channel.ChannelSourceSequence[0]
    code = _LEAD_CODE.fullmatch(_text(source, "CodeValue"))
    return LEAD_NUMBERS.get(code[1]) if code else None


def _calibration(channel: "Dataset", lead: str) -> tuple[float, int]:
    """Microvolts per count, and the count of zero volts."""
    units = channel.get("ChannelSensitivityUnitsSequence")
    unit = MICROVOLTS.get(_text(units[0], "CodeValue").lower()) if units else None
    sensitivity = to_float(_text(channel, "ChannelSensitivity"))
    correction = to_float(_text(channel, "ChannelSensitivityCorrectionFactor") or "1")
    offset = to_float(_text(channel, "ChannelBaseline") or "0")
    if unit is None or sensitivity is None or correction is None or offset is None:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: units")
    if abs(to_float(_text(channel, "ChannelSampleSkew") or "0") or 0.0) >= 1:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: a skew")
    scale = sensitivity * correction * unit
    return scale, whole_baseline(offset * unit, scale)


def _text(dataset: "Dataset", keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _time(text: str) -> datetime | None:
    return to_time(text[:14], "%Y%m%d%H%M%S")


def _age(text: str) -> float | None:
    found = _AGE.fullmatch(text.upper())
    return int(found[1]) * YEARS[found[2]] if found else None
