"""Checks that every file format shares: of a file before it is opened, and of the ECG that was read from it."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from stat import S_ISLNK, S_ISREG

import numpy as np

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS, Ecg
from ecg_pipeline.ingest.rejects import Rejected, RejectReason

INVALID_SAMPLE = -32768
"""The count of a sample that was not recorded, in GE MUSE and in WFDB: readers keep it as it is."""

GONE = "gone since the folder was listed"


def leaves_folder(path: Path, folder: Path) -> bool:
    """Whether a path, with all links followed, points out of the folder."""
    # Not `Path.resolve`, for which a link to itself is an error.
    return not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def check_file(path: Path, folder: Path, largest_mb: float) -> None:
    """Reject a file that must not be read: a link out of the folder, a pipe or device, an empty or too large file."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        raise Rejected(RejectReason.UNREADABLE, GONE, transient=True) from None
    if S_ISLNK(state.st_mode):
        if leaves_folder(path, folder):
            raise Rejected(RejectReason.OUTSIDE_FOLDER, "a link that leaves the drop folder")
        if not path.is_file():
            raise Rejected(RejectReason.UNREADABLE, "a link that leads to no file")
        state = path.stat()
    if not S_ISREG(state.st_mode):
        raise Rejected(RejectReason.UNREADABLE, "not a regular file")
    if state.st_size == 0:
        raise Rejected(RejectReason.EMPTY_FILE)
    if state.st_size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{state.st_size / 2**20:.0f} MB")


def whole_hz(sampling_hz: float) -> int:
    """A sampling rate as a whole number; rejected if it is not whole, or not between 50 and 20,000 Hz."""
    if not 50 <= sampling_hz <= 20_000 or sampling_hz != round(sampling_hz):
        raise Rejected(RejectReason.BAD_CALIBRATION, "sampling rate")
    return int(sampling_hz)


def standard_leads(names: Collection[str]) -> tuple[str, ...]:
    """The standard leads among a file's, in clinical order; a file without all eight independent leads is rejected.

    Readers order their leads with it, so that such a file is rejected before its samples are read.
    """
    if missing := [lead for lead in INDEPENDENT_LEADS if lead not in names]:
        raise Rejected(RejectReason.MISSING_LEADS, ", ".join(missing))
    return tuple(lead for lead in LEADS if lead in names)


def check_ecg(ecg: Ecg, *, site_names: Sequence[str], minimum_seconds: float) -> None:
    """Reject an ECG that cannot be used. site_names: `SiteName`s that belong to the site; empty accepts any."""
    standard_leads(ecg.leads)
    for lead, scale in zip(ecg.leads, ecg.microvolts_per_count, strict=True):
        if not 0.01 <= scale <= 1000:
            raise Rejected(RejectReason.BAD_CALIBRATION, f"lead {lead}: units")
    for lead, counts in zip(ecg.leads, ecg.counts, strict=True):
        if (counts == INVALID_SAMPLE).any():
            raise Rejected(RejectReason.NOT_FINITE, f"lead {lead}")
    if site_names and ecg.site_name not in site_names:
        raise Rejected(RejectReason.OTHER_SITE, "its SiteName is not one of this site's")
    if ecg.seconds < minimum_seconds:
        raise Rejected(RejectReason.TOO_SHORT, f"{ecg.seconds:g} s")
    if (np.ptp(ecg.counts, axis=1) == 0).all():
        raise Rejected(RejectReason.FLAT_SIGNAL)
