"""GE MUSE RestingECG XML.

A file holds two `Waveform`s, a median beat and the rhythm strip; the rhythm strip is found by its type, because their
order differs between versions. Leads are base64 of little-endian int16. Real exports have free text with unescaped `&`
and `<`, and a DOCTYPE that names a DTD: it is never fetched. A file that declares entities is rejected without
being parsed.

Nine tenths of an export are base64, which an XML parser need not see: it is cut out before parsing.
"""

import binascii
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite

import numpy as np
import pybase64
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS, Ecg
from ecg_pipeline.ingest.checks import INVALID_SAMPLE, standard_leads, whole_hz
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.safe_xml import check_xml, parse_xml
from ecg_pipeline.ingest.formats.values import to_float, to_time
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_bytes

MICROVOLTS = {"MICROVOLTS": 1.0, "UV": 1.0, "MILLIVOLTS": 1000.0, "MV": 1000.0}
YEARS = {"YEARS": 1.0, "MONTHS": 1 / 12, "WEEKS": 1 / 52.18, "DAYS": 1 / 365.25, "HOURS": 1 / 8766}
CANONICAL = {lead.upper(): lead for lead in LEADS}
MAX_BASELINE = 32_767

_OPEN, _CLOSE = b"<WaveFormData>", b"</WaveFormData>"
_CUT = b"\x7f"
"""Mark before the number of a waveform that was cut out: the delete character, which exports do not contain."""

_CUT_REFERENCE = re.compile(rb"&#(?:0*127|x0*7f);", re.I)
"""The same mark as an XML character reference."""

MAX_SKELETON_BYTES = 4 * 2**20
"""Limit of the XML around the waveforms. Exports have tens of kilobytes; parsed it takes thirty times as much."""

_BARE_AMPERSAND = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});)")
_BARE_LESS_THAN = re.compile(rb"<(?![A-Za-z/!?])")
_DECLARATION = re.compile(rb"^\s*<\?xml[^>]*\?>")


def read_muse_xml(file: EcgFile) -> Ecg:
    """Read one RestingECG export; see `format.Reader`."""
    content = file.path.read_bytes()
    root, cut = read_export(content)
    rhythm = _rhythm(root)
    sampling_hz = _rate(rhythm)
    counts, scales = _leads(rhythm, cut)
    leads = standard_leads(counts)
    if len({len(counts[lead]) for lead in leads}) > 1:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, "leads differ in length")
    patient, test = _texts(root.find("PatientDemographics")), _texts(root.find("TestDemographics"))
    return Ecg(
        counts=np.stack([counts[lead] for lead in leads]),
        leads=leads,
        microvolts_per_count=tuple(scales[lead] for lead in leads),
        sampling_hz=sampling_hz,
        source_sha256=sha256_bytes(content),
        patient_id=known_id(patient.get("PatientID")),
        acquired_at=_time(test.get("AcquisitionDate"), test.get("AcquisitionTime")),
        age_years=_age(patient.get("PatientAge"), patient.get("AgeUnits")),
        sex={"M": "M", "F": "F"}.get((patient.get("Gender") or "").strip().upper()[:1]),
        site_name=(test.get("SiteName") or "").strip() or None,
        device=(test.get("AcquisitionDevice") or "").strip() or None,
    )


def read_export(content: bytes) -> tuple[etree._Element, list[bytes]]:
    """The root element of an export without its waveforms, and their base64 in order. Raises `Rejected`."""
    skeleton, cut = _cut(content)
    return _parse(skeleton), cut


def _cut(content: bytes) -> tuple[bytes, list[bytes]]:
    """Replace the base64 of each waveform by `_CUT` and its number: the shortened export, and the base64 in order.

    A waveform whose tags have attributes or spaces is left in place, and all are if the file contains the mark.
    """
    if _CUT in content or _CUT_REFERENCE.search(content):
        return content, []
    kept, cut, at = [], [], 0
    while (tag := content.find(_OPEN, at)) >= 0:
        start = tag + len(_OPEN)
        end = content.find(b"<", start)
        if not content.startswith(_CLOSE, end):
            kept.append(content[at:start])
            at = start
            continue
        kept += [content[at:start], _CUT, b"%d" % len(cut)]
        cut.append(content[start:end])
        at = end
    return b"".join([*kept, content[at:]]), cut


def _parse(content: bytes) -> etree._Element:
    """The root element. Content that is not well-formed in any of `_readings` is rejected, never read in part."""
    if len(content) > MAX_SKELETON_BYTES:
        raise Rejected(RejectReason.TOO_LARGE, f"{len(content) / 2**20:.0f} MB beside its waveforms")
    check_xml(content)
    for reading in _readings(content):
        root = parse_xml(reading)
        if root is None:
            continue
        if root.tag != "RestingECG":
            raise Rejected(RejectReason.NOT_AN_ECG, "the root element is not RestingECG")
        return root
    raise Rejected(RejectReason.UNREADABLE, "not well-formed XML")


def _readings(content: bytes) -> Iterator[bytes]:
    """The content as it is, with bare `&` and `<` escaped, and then as the Latin-1 that MUSE writes."""
    yield content
    escaped = _BARE_LESS_THAN.sub(b"&lt;", _BARE_AMPERSAND.sub(b"&amp;", content))
    yield escaped
    yield b'<?xml version="1.0" encoding="ISO-8859-1"?>' + _DECLARATION.sub(b"", escaped)


def _texts(element: etree._Element | None) -> dict[str, str | None]:
    """The text of each child by its tag; the first child's if a tag repeats."""
    if element is None:
        return {}
    return {child.tag: child.text for child in element.iterchildren(etree.Element, reversed=True)}


def _rhythm(root: etree._Element) -> etree._Element:
    for waveform in root.iterfind("Waveform"):
        if (waveform.findtext("WaveformType") or "").strip().upper() == "RHYTHM":
            return waveform
    raise Rejected(RejectReason.NO_RHYTHM_WAVEFORM)


def _rate(waveform: etree._Element) -> int:
    """Samples per second: SampleBase * 10 ** SampleExponent of this waveform."""
    texts = _texts(waveform)
    exponent = _number(texts, "SampleExponent", 0.0)
    return whole_hz(_number(texts, "SampleBase") * 10**exponent if abs(exponent) <= 9 else 0.0)


def _leads(waveform: etree._Element, cut: Sequence[bytes]) -> tuple[dict[str, NDArray[np.int16]], dict[str, float]]:
    """Counts (T,) and microvolts per count, by lead."""
    counts: dict[str, NDArray[np.int16]] = {}
    scales: dict[str, float] = {}
    for lead_data in waveform.iterfind("LeadData"):
        texts = _texts(lead_data)
        lead = CANONICAL.get((texts.get("LeadID") or "").strip().upper())
        if lead is None:
            continue
        unit = MICROVOLTS.get((texts.get("LeadAmplitudeUnits") or "MICROVOLTS").strip().upper())
        if unit is None or _number(texts, "LeadSampleSize", 2.0) != 2:
            raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: units")
        scales[lead] = _number(texts, "LeadAmplitudeUnitsPerBit") * unit
        counts[lead] = _samples(texts, lead, cut)
    return counts, scales


def _samples(texts: Mapping[str, str | None], lead: str, cut: Sequence[bytes]) -> NDArray[np.int16]:
    try:
        content = _decoded(texts.get("WaveFormData") or "", cut)
    except (binascii.Error, ValueError):
        raise Rejected(RejectReason.BAD_ENCODING, f"lead {lead}: not base64") from None
    if len(content) != 2 * _number(texts, "LeadSampleCountTotal"):
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"lead {lead}: {len(content) // 2} samples")
    checksum = texts.get("LeadDataCRC32")
    if checksum and checksum.strip() and int(_number(texts, "LeadDataCRC32")) & 0xFFFFFFFF != zlib.crc32(content):
        raise Rejected(RejectReason.CHECKSUM_MISMATCH, f"lead {lead}")
    samples = np.frombuffer(content, "<i2")
    baseline = int(_number(texts, "FirstSampleBaseline", 0.0))
    if abs(baseline) > MAX_BASELINE:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: baseline")
    if baseline == 0:
        return samples
    counts = (samples.astype(np.int32) - baseline).clip(-32767, 32767)
    return np.where(samples == INVALID_SAMPLE, INVALID_SAMPLE, counts).astype(np.int16)


def _decoded(text: str, cut: Sequence[bytes]) -> bytes:
    """The bytes that a lead's base64 encodes; a ValueError if it is not base64."""
    encoded = text.encode()
    if cut and encoded.startswith(_CUT):
        number = int(encoded.removeprefix(_CUT))
        if not 0 <= number < len(cut):
            raise ValueError("no waveform of this number was cut out")
        encoded = cut[number]
    for space in (b"\n", b"\r", b" ", b"\t"):
        encoded = encoded.replace(space, b"")
    return pybase64.b64decode(encoded, validate=True)


def _number(texts: Mapping[str, str | None], name: str, default: float | None = None) -> float:
    text = (texts.get(name) or "").strip()
    if not text and default is not None:
        return default
    try:
        number = float(text)
    except ValueError:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"{name} is not a number") from None
    if not isfinite(number) or abs(number) > 1e12:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"{name} is out of range")
    return number


def _time(date: str | None, time: str | None) -> datetime | None:
    return to_time(f"{(date or '').strip()} {(time or '00:00:00').strip()}", "%m-%d-%Y %H:%M:%S")


def _age(age: str | None, units: str | None) -> float | None:
    number = to_float(age)
    return None if number is None else number * YEARS.get((units or "YEARS").strip().upper(), 1.0)
