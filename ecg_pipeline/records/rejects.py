"""Why a file is not used: a closed list. A bad file is never fatal and never silent."""

from enum import StrEnum


class RejectReason(StrEnum):
    """Every reason for which a file may be left out."""

    EMPTY_FILE = "empty_file"
    TOO_LARGE = "too_large"
    OUTSIDE_FOLDER = "outside_folder"
    UNREADABLE = "unreadable"
    FORBIDDEN_XML = "forbidden_xml"
    NOT_AN_ECG = "not_an_ecg"
    OTHER_SITE = "other_site"
    NO_RHYTHM_WAVEFORM = "no_rhythm_waveform"
    MISSING_LEADS = "missing_leads"
    BAD_ENCODING = "bad_encoding"
    WRONG_SAMPLE_COUNT = "wrong_sample_count"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    BAD_CALIBRATION = "bad_calibration"
    NOT_FINITE = "not_finite"
    TOO_SHORT = "too_short"
    FLAT_SIGNAL = "flat_signal"
    DUPLICATE_WAVEFORM = "duplicate_waveform"
    MISSING_SIGNAL_FILE = "missing_signal_file"


class Rejected(Exception):  # noqa: N818
    """A file cannot be used. The detail is short and holds nothing about the patient."""

    def __init__(self, reason: RejectReason, detail: str = ""):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
