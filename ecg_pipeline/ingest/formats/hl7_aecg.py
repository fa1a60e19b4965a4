"""HL7 annotated ECG (aECG): XML with the samples as texts of whole numbers, as drug trials submit them.

HL7 Version 3 standard: Regulated Studies, Annotated ECG, release 1. The rhythm is the series with the code `RHYTHM`;
representative beats are derived series. A lead's samples are `origin + scale * digits`, and are stored as the digits.
"""

from datetime import datetime
from math import isfinite

import numpy as np
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS, Ecg
from ecg_pipeline.ingest.checks import standard_leads, whole_hz
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.safe_xml import check_xml, parse_xml
from ecg_pipeline.ingest.formats.samples import MAX_COUNT, whole_baseline, without_baseline
from ecg_pipeline.ingest.formats.values import to_float, to_time, years_between
from ecg_pipeline.ingest.pseudonyms import known_id
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_bytes

NAMESPACE = {"": "urn:hl7-org:v3"}
ROOT = "{urn:hl7-org:v3}AnnotatedECG"
LEAD_CODES = {f"MDC_ECG_LEAD_{lead.upper()}": lead for lead in LEADS}
MICROVOLTS = {"uV": 1.0, "mV": 1000.0, "V": 1e6, "nV": 0.001}
SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
YEARS = {"a": 1.0, "mo": 1 / 12, "wk": 1 / 52.18, "d": 1 / 365.25, "h": 1 / 8766}
REPORTED_AGE = "21612-7"
"""LOINC code of the age."""

MAX_TAGS = 200_000
"""Limit of the tags of a file, which take memory. Files have a few thousand."""

MAX_DIGITS = 4 * 2**20
"""Limit of the characters of a lead's samples: five minutes have a tenth of it."""


def read_hl7_aecg(file: EcgFile) -> Ecg:
    """Read the rhythm of one annotated ECG; see `format.Reader`."""
    content = file.path.read_bytes()
    root = _root(content)
    series = _rhythm(root)
    sampling_hz, sequences = _sequences(series)
    leads = standard_leads(sequences)
    read = [_lead(lead, sequences[lead]) for lead in leads]
    if len({len(counts) for counts, _ in read}) > 1:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, "leads differ in length")
    subject = root.find(".//trialSubject", NAMESPACE)
    person = None if subject is None else subject.find("subjectDemographicPerson", NAMESPACE)
    acquired_at = _time(_value(series, "effectiveTime/low") or _value(root, "effectiveTime/center"))
    return Ecg(
        counts=np.stack([counts for counts, _ in read]),
        leads=leads,
        microvolts_per_count=tuple(scale for _, scale in read),
        sampling_hz=sampling_hz,
        source_sha256=sha256_bytes(content),
        patient_id=known_id(_value(subject, "id", "extension")),
        acquired_at=acquired_at,
        age_years=_reported_age(root) or years_between(_time(_value(person, "birthTime")), acquired_at),
        sex={"M": "M", "F": "F"}.get(_value(person, "administrativeGenderCode", "code").upper()),
        device=(series.findtext(".//manufacturerModelName", None, NAMESPACE) or "").strip() or None,
    )


def _root(content: bytes) -> etree._Element:
    if content.count(b"<") > MAX_TAGS:
        raise Rejected(RejectReason.TOO_LARGE, f"more than {MAX_TAGS:,} tags")
    check_xml(content)
    root = parse_xml(content)
    if root is None:
        raise Rejected(RejectReason.UNREADABLE, "not well-formed XML")
    if root.tag != ROOT:
        raise Rejected(RejectReason.NOT_AN_ECG, "the root element is not AnnotatedECG")
    return root


def _rhythm(root: etree._Element) -> etree._Element:
    for series in root.iterfind("component/series", NAMESPACE):
        if _value(series, "code", "code") == "RHYTHM":
            return series
    raise Rejected(RejectReason.NO_RHYTHM_WAVEFORM)


def _sequences(series: etree._Element) -> tuple[int, dict[str, etree._Element]]:
    """Samples per second, and the values of each lead, of the first set of sequences, which were recorded together."""
    found = series.find("component/sequenceSet", NAMESPACE)
    if found is None:
        raise Rejected(RejectReason.NO_RHYTHM_WAVEFORM, "no sequences")
    increment, by_lead = None, {}
    for sequence in found.iterfind("component/sequence", NAMESPACE):
        code, value = _value(sequence, "code", "code"), sequence.find("value", NAMESPACE)
        if value is None:
            continue
        if code in ("TIME_ABSOLUTE", "TIME_RELATIVE"):
            increment = value.find("increment", NAMESPACE)
        elif lead := LEAD_CODES.get(code.upper()):
            by_lead[lead] = value
    seconds = _quantity(increment, SECONDS, "time between samples")
    return whole_hz(round(1 / seconds, 6) if seconds > 0 else 0.0), by_lead


def _lead(lead: str, value: etree._Element) -> tuple[NDArray[np.int16], float]:
    """Counts (T,) and microvolts per count."""
    scale = _quantity(value.find("scale", NAMESPACE), MICROVOLTS, f"lead {lead}: scale")
    origin = value.find("origin", NAMESPACE)
    offset = 0.0 if origin is None else _quantity(origin, MICROVOLTS, f"lead {lead}: origin")
    text = value.findtext("digits", None, NAMESPACE) or ""
    if len(text) > MAX_DIGITS:
        raise Rejected(RejectReason.TOO_LARGE, f"lead {lead}: {len(text):,} characters")
    try:
        digits = np.array(text.split(), np.int64)
    except (ValueError, OverflowError):
        raise Rejected(RejectReason.BAD_ENCODING, f"lead {lead}: not whole numbers") from None
    if np.abs(digits).max(initial=0) > MAX_COUNT:
        raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: counts of more than 16 bits")
    return without_baseline(digits.astype(np.int16), whole_baseline(offset, scale)), scale


def _quantity(element: etree._Element | None, units: dict[str, float], what: str) -> float:
    """A physical quantity in the unit that counts 1; rejected if it is none."""
    number = to_float(None if element is None else element.get("value"))
    unit = None if element is None else units.get((element.get("unit") or "").strip())
    if number is None or unit is None or not isfinite(number * unit):
        raise Rejected(RejectReason.BAD_CALIBRATION, what)
    return number * unit


def _value(element: etree._Element | None, path: str, attribute: str = "value") -> str:
    found = None if element is None else element.find(path, NAMESPACE)
    return "" if found is None else (found.get(attribute) or "").strip()


def _time(text: str) -> datetime | None:
    """A time with seconds, minutes, or of a day; fractions and time zones are left out."""
    digits = text[:14] if text[:14].isdigit() else text.partition(".")[0].partition("+")[0].partition("-")[0]
    form = {14: "%Y%m%d%H%M%S", 12: "%Y%m%d%H%M", 8: "%Y%m%d"}.get(len(digits))
    return to_time(digits, form) if form else None


def _reported_age(root: etree._Element) -> float | None:
    for observation in root.iterfind("controlVariable/relatedObservation", NAMESPACE):
        if _value(observation, "code", "code") == REPORTED_AGE:
            number, unit = to_float(_value(observation, "value")), YEARS.get(_value(observation, "value", "unit"))
            return None if number is None or unit is None else number * unit
    return None
