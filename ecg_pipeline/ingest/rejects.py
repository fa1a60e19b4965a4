"""Why a file is not used: a closed list of reasons. A bad file is never fatal and never silent."""

from enum import StrEnum

READER_ERROR = "reader error "
"""Start of the detail of a file whose reader raised an unexpected exception; the exception's name follows."""


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
    WITHDRAWN = "withdrawn"


class Rejected(Exception):  # noqa: N818
    """A file cannot be used. The detail is short and holds nothing about the patient.

    transient: whether the next run reads the file again: it was gone or changed, its disk failed, or its reader did.
    patient: pseudonym of the patient, if the file could be read so far.
    """

    patient: str | None = None

    def __init__(self, reason: RejectReason, detail: str = "", *, transient: bool = False):
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.transient = transient


def reader_error(error: Exception) -> Rejected:
    """The reject for an exception that a reader should not have raised. The exception's name is kept, but not its
    message, which may contain data of the patient. It is transient, because readers get fixed.
    """
    kind = type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return Rejected(RejectReason.UNREADABLE, f"{READER_ERROR}{name}", transient=True)
