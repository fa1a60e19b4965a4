"""WFDB records: a header (`.hea`), and the signal files that it names. What a data set adds is in a module of its own.

Headers are parsed here, and so is signal format 16, which public data sets use: some challenge headers have first lines
that the wfdb package refuses, and a header may name a signal file outside its folder, which must not be opened. Other
signal formats are decoded by the wfdb package.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS, Ecg
from ecg_pipeline.ingest.checks import INVALID_SAMPLE, leaves_folder, standard_leads, whole_hz
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.samples import without_baseline
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_file

CANONICAL = {lead.upper(): lead for lead in LEADS}
MICROVOLTS = {"mv": 1000.0, "uv": 1.0, "v": 1e6}

MAX_HEADER_BYTES = 2**20
"""Real headers have a few thousand bytes."""

MAX_SAMPLES = 10_000_000

WFDB_FORMATS = {"8", "24", "32", "61", "80", "160", "212", "310", "311"}
"""Formats that the wfdb package decodes from the files that the header names, without a further package."""

_FORMAT = re.compile(r"^(?P<code>\d+)(?:x(?P<frame>\d+))?(?::(?P<skew>\d+))?(?:\+(?P<offset>\d+))?$")
_GAIN = re.compile(r"^(?P<gain>[-+.\deE]+)(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>\S+))?$")


@dataclass(frozen=True)
class Signal:
    """One signal line of a header."""

    file: str
    format: str
    offset: int
    gain: float
    baseline: int
    unit: str
    checksum: int | None
    lead: str | None


@dataclass(frozen=True)
class Header:
    """A WFDB header: rate, length, signals, and the `#Key: value` comments by lower-case key.

    start: time and date of the first sample as the header writes them, empty where it does not.
    """

    sampling_hz: float
    samples: int
    start: str
    signals: tuple[Signal, ...]
    comments: Mapping[str, str]


def is_header(name: str) -> bool:
    """Whether a file of this name is a header: a record is read by its header."""
    return name.endswith(".hea")


def read_header(path: Path) -> Header:
    """Parse a header file. Raises `Rejected` if it is malformed."""
    lines = _lines(path)
    content = [line for line in lines if line and not line.startswith("#")]
    if not content:
        raise Rejected(RejectReason.EMPTY_FILE, "header without lines")
    fields = content[0].split()
    try:
        count, rate, samples = int(fields[1]), float(re.split(r"[/(]", fields[2])[0]), int(fields[3])
        signals = tuple(_signal(line) for line in content[1 : count + 1]) if count > 0 else ()
    except (IndexError, ValueError):
        raise Rejected(RejectReason.UNREADABLE, "not a WFDB header") from None
    if "/" in fields[0]:
        raise Rejected(RejectReason.UNREADABLE, "a record of several segments")
    if len(signals) != count or not 0 < samples <= MAX_SAMPLES:
        raise Rejected(RejectReason.UNREADABLE, "header and its signal lines disagree")
    comments = (line.lstrip("# ").partition(":") for line in lines if line.startswith("#"))
    return Header(
        sampling_hz=rate,
        samples=samples,
        start=" ".join(fields[4:6]),
        signals=signals,
        comments={key.strip().lower(): value.strip() for key, _, value in comments},
    )


def signal_files(path: Path) -> frozenset[str]:
    """Names of the files that a header's signals are in, as written there; none if it is not a header."""
    try:
        return frozenset(signal.file for signal in read_header(path).signals)
    except Rejected:
        return frozenset()


def read_wfdb(file: EcgFile) -> Ecg:
    """Read the record of a header, without demographics: data sets store them differently. See `format.Reader`."""
    header = read_header(file.path)
    names = (CANONICAL.get((signal.lead or "").upper(), "") for signal in header.signals)
    by_lead = {name: number for number, name in enumerate(names)}
    leads = standard_leads(by_lead)
    rows = [by_lead[lead] for lead in leads]
    sampling_hz = whole_hz(header.sampling_hz)
    scales = tuple(_microvolts_per_count(header.signals[row]) for row in rows)
    digital = _digital(file.path, header, file.largest_mb)
    counts = np.empty((len(rows), digital.shape[1]), np.int16)
    for place, row in enumerate(rows):
        counts[place] = without_baseline(digital[row], header.signals[row].baseline)
    return Ecg(counts, leads, scales, sampling_hz, sha256_file(file.path))


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_HEADER_BYTES + 1)
    except OSError:
        raise Rejected(RejectReason.UNREADABLE, "header cannot be opened", transient=True) from None
    if len(content) > MAX_HEADER_BYTES:
        raise Rejected(RejectReason.TOO_LARGE, "longer than a header")
    return [line.strip() for line in content.decode(errors="replace").splitlines()]


def _signal(line: str) -> Signal:
    fields = line.split(maxsplit=8)
    form, gain = _FORMAT.match(fields[1]), _GAIN.match(fields[2])
    if form is None or gain is None:
        raise ValueError(line)
    if int(form["frame"] or 1) != 1 or int(form["skew"] or 0) != 0:
        raise ValueError("several samples per frame, or a skew")
    adc_zero = int(fields[4]) if len(fields) > 4 else 0
    return Signal(
        file=fields[0],
        format=form["code"],
        offset=int(form["offset"] or 0),
        gain=float(gain["gain"]) or 200.0,
        baseline=int(gain["baseline"]) if gain["baseline"] else adc_zero,
        unit=gain["unit"] or "mV",
        checksum=int(fields[6]) if len(fields) > 6 else None,
        lead=fields[8].strip() if len(fields) > 8 else None,
    )


def _microvolts_per_count(signal: Signal) -> float:
    unit = MICROVOLTS.get(signal.unit.lower())
    if unit is None:
        raise Rejected(RejectReason.BAD_CALIBRATION, "gain or unit")
    return unit / signal.gain


def _digital(path: Path, header: Header, largest_mb: float) -> NDArray[np.int16]:
    """The samples (signals, T) as stored, with their checksums verified."""
    names = {signal.file for signal in header.signals}
    for name in names:
        _check_signal_file(path.parent, name, largest_mb)
    size = header.samples * len(header.signals)
    if size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{size:,} samples")
    formats = {signal.format for signal in header.signals}
    if len(names) > 1 or formats != {"16"}:
        if not formats <= {"16", *WFDB_FORMATS}:
            raise Rejected(RejectReason.UNREADABLE, "a signal format that is not read")
        digital = _read_with_wfdb(path)
    else:
        digital = _format_16(path, header)
    sums = digital.sum(axis=1, dtype=np.int64).tolist()
    for number, (signal, total) in enumerate(zip(header.signals, sums, strict=True)):
        if signal.checksum is not None and (signal.checksum - total) % 65536:
            raise Rejected(RejectReason.CHECKSUM_MISMATCH, f"signal {number}")
    return digital


def _format_16(path: Path, header: Header) -> NDArray[np.int16]:
    """(signals, T) of one file of 16-bit samples, interleaved by signal."""
    signal, size = header.signals[0], header.samples * len(header.signals)
    file = path.parent / signal.file
    held = max(0, file.stat().st_size - signal.offset) // 2
    if held != size:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"{held // len(header.signals)} samples")
    return np.fromfile(file, "<i2", size, offset=signal.offset).reshape(header.samples, len(header.signals)).T


def _check_signal_file(folder: Path, name: str, largest_mb: float) -> None:
    """Reject a signal file name that is not a file beside the header; a file elsewhere is not even looked at."""
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name or leaves_folder(folder / name, folder):
        raise Rejected(RejectReason.OUTSIDE_FOLDER, "the header names a signal file elsewhere")
    if len(name.encode()) > 255 or not (folder / name).is_file():
        raise Rejected(RejectReason.MISSING_SIGNAL_FILE)
    size = (folder / name).stat().st_size
    if size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{size / 2**20:.0f} MB of signals")


def _read_with_wfdb(path: Path) -> NDArray[np.int16]:
    import wfdb

    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
    except (ValueError, OSError, IndexError, KeyError, TypeError):
        raise Rejected(RejectReason.UNREADABLE, "wfdb cannot read it") from None
    if not isinstance(record, wfdb.Record) or record.d_signal is None:
        raise Rejected(RejectReason.UNREADABLE, "not one segment of samples")
    digital = record.d_signal.T
    if digital.min() < INVALID_SAMPLE or digital.max() > np.iinfo(np.int16).max:
        raise Rejected(RejectReason.BAD_CALIBRATION, "counts of more than 16 bits")
    return np.ascontiguousarray(digital).astype(np.int16)
