"""WFDB records: PTB-XL, MIMIC-IV-ECG, and the `.hea` + `.mat` files of the PhysioNet/CinC challenges.

These data sets store format 16, which is read here: headers of the challenges hold first lines that the wfdb package
refuses, and a header may name a signal file outside its folder, which must not be opened. Any other signal format
goes through wfdb.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS, Ecg
from ecg_pipeline.ingest.drop_folder import leaves_folder
from ecg_pipeline.ingest.pseudonyms import identified
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.storage.files import sha256_file

CANONICAL = {lead.upper(): lead for lead in LEADS}
PTB_XL_TABLE = "ptbxl_database.csv"
PTB_XL_COLUMNS = ("filename_hr", "patient_id", "scp_codes")
INVALID_SAMPLE = -32768
MICROVOLTS = {"mv": 1000.0, "uv": 1.0, "v": 1e6}

LARGEST_HEADER = 2**20
"""Bytes; real headers have a few thousand."""

LARGEST_SAMPLES = 10_000_000
LARGEST_BASELINE = 65_536

THROUGH_WFDB = {"8", "24", "32", "61", "80", "160", "212", "310", "311"}
"""Formats that wfdb reads from the files that the header names, without a decoder of its own."""

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
    """A WFDB header: rate, length, signals, and the `#Key: value` comments by lower-case key."""

    sampling_hz: float
    samples: int
    signals: tuple[Signal, ...]
    comments: Mapping[str, str]


def read_header(path: Path) -> Header:
    """Parse a header file. What cannot be understood is a `Rejected`."""
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
    if len(signals) != count or not 0 < samples <= LARGEST_SAMPLES:
        raise Rejected(RejectReason.UNREADABLE, "header and its signal lines disagree")
    comments = (line.lstrip("# ").partition(":") for line in lines if line.startswith("#"))
    return Header(rate, samples, signals, {key.strip().lower(): value.strip() for key, _, value in comments})


def signal_files(path: Path) -> frozenset[str]:
    """Names of the files that a header's signals are in, as it gives them; none where it is no header."""
    try:
        return frozenset(signal.file for signal in read_header(path).signals)
    except Rejected:
        return frozenset()


def read_wfdb(path: Path, largest_mb: float = 32.0) -> Ecg:
    """Read the record of one header; see `formats.reader.Reader`. No demographics: each data set keeps its own.

    largest_mb: of the signal file.
    """
    header = read_header(path)
    by_lead = {CANONICAL.get((signal.lead or "").upper()): number for number, signal in enumerate(header.signals)}
    missing = [lead for lead in INDEPENDENT_LEADS if lead not in by_lead]
    if missing:
        raise Rejected(RejectReason.MISSING_LEADS, ", ".join(missing))
    leads = tuple(lead for lead in LEADS if lead in by_lead)
    rows = [by_lead[lead] for lead in leads]
    if not 50 <= header.sampling_hz <= 20_000 or header.sampling_hz != round(header.sampling_hz):
        raise Rejected(RejectReason.BAD_CALIBRATION, "sampling rate")
    signals = [header.signals[row] for row in rows]
    scales = tuple(_microvolts_per_count(signal) for signal in signals)
    digital = _digital(path, header, largest_mb)
    if (digital == INVALID_SAMPLE).any():
        raise Rejected(RejectReason.NOT_FINITE)
    counts = np.empty((len(rows), digital.shape[1]), np.int16)
    for place, (row, signal) in enumerate(zip(rows, signals, strict=True)):
        counts[place] = _without_baseline(digital[row], signal.baseline)
    return Ecg(counts, leads, scales, int(header.sampling_hz), sha256_file(path))


def read_ptb_xl(path: Path, folder: Path, largest_mb: float = 32.0) -> Ecg:
    """Read a PTB-XL record with its row of `ptbxl_database.csv`."""
    row = ptb_xl_rows(folder).get(path.relative_to(folder).as_posix().removesuffix(".hea"), {})
    age = _float(row.get("age"))
    return replace(
        read_wfdb(path, largest_mb),
        patient_id=ptb_xl_patient(row),
        acquired_at=_time(row.get("recording_date"), "%Y-%m-%d %H:%M:%S"),
        age_years=90.0 if age == 300 else age,
        sex={"0": "M", "1": "F"}.get(row.get("sex", "")),
        device=(row.get("device") or "").strip() or None,
        fold=_fold(row.get("strat_fold")),
    )


def read_mimic_iv_ecg(path: Path, largest_mb: float = 32.0) -> Ecg:
    """Read a MIMIC-IV-ECG record. Its folder is named after the subject; its lead order is its header's."""
    subject = re.search(r"/p(\d{6,9})/s\d+/", path.as_posix())
    stamp = " ".join(" ".join(_lines(path)[:1]).split()[4:6])
    return replace(
        read_wfdb(path, largest_mb),
        patient_id=identified(subject.group(1)) if subject else None,
        acquired_at=_time(stamp, "%H:%M:%S %d/%m/%Y"),
    )


def read_cinc(path: Path, largest_mb: float = 32.0) -> Ecg:
    """Read a challenge record. There are no patient identifiers in these sets: each record is a patient of its own."""
    comments = read_header(path).comments
    return replace(
        read_wfdb(path, largest_mb),
        patient_id=path.stem,
        age_years=_float(comments.get("age")),
        sex={"m": "M", "f": "F"}.get(comments.get("sex", "").lower()[:1]),
    )


def ptb_xl_rows(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Rows of `ptbxl_database.csv` by `filename_hr`. A missing table is a FileNotFoundError, a missing column a
    ValueError that names it; a row that is not one is left out.
    """
    path = folder / PTB_XL_TABLE
    try:
        state = path.stat()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: a folder in PTB-XL's layout needs this table") from None
    return _ptb_xl_rows(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4)
def _ptb_xl_rows(path: Path, size: int, mtime_ns: int) -> Mapping[str, Mapping[str, str]]:
    """Size and time of change tell a table from what stood there before, in a process that outlives it."""
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        lines = _csv_lines(file)
        columns = next(lines, [])
        missing = [column for column in PTB_XL_COLUMNS if column not in columns]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; is this PTB-XL's table?")
        rows = (dict(zip(columns, line, strict=False)) for line in lines)
        return {row["filename_hr"]: row for row in rows if row.get("filename_hr")}


def _csv_lines(file: TextIO) -> Iterator[list[str]]:
    """The rows of a CSV file but those that the csv module refuses."""
    reader = csv.reader(file)
    while True:
        try:
            yield next(reader)
        except csv.Error:
            continue
        except StopIteration:
            return


def ptb_xl_patient(row: Mapping[str, str]) -> str | None:
    """The identifier in a row of PTB-XL's table, which writes numbers of patients as floats."""
    return identified(row.get("patient_id", "").removesuffix(".0"))


def _lines(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_HEADER + 1)
    except OSError:
        raise Rejected(RejectReason.UNREADABLE, "header cannot be opened", passing=True) from None
    if len(content) > LARGEST_HEADER:
        raise Rejected(RejectReason.TOO_LARGE, "longer than a header")
    return [line.strip() for line in content.decode(errors="replace").splitlines()]


def _signal(line: str) -> Signal:
    fields = line.split(maxsplit=8)
    form, gain = _FORMAT.match(fields[1]), _GAIN.match(fields[2])
    if form is None or gain is None:
        raise ValueError(line)
    if int(form["frame"] or 1) != 1 or int(form["skew"] or 0) != 0:
        raise ValueError("several samples a frame, or a skew")
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
    if unit is None or not np.isfinite(signal.gain) or not 0.01 <= unit / signal.gain <= 1000:
        raise Rejected(RejectReason.BAD_CALIBRATION, "gain or unit")
    return unit / signal.gain


def _digital(path: Path, header: Header, largest_mb: float) -> NDArray[np.int16]:
    """(signals, T) as stored."""
    names = {signal.file for signal in header.signals}
    for name in names:
        _check_signal_file(path.parent, name, largest_mb)
    size = header.samples * len(header.signals)
    if size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{size:,} samples")
    formats = {signal.format for signal in header.signals}
    if len(names) > 1 or formats != {"16"}:
        if not formats <= {"16", *THROUGH_WFDB}:
            raise Rejected(RejectReason.UNREADABLE, "a signal format that is not read")
        digital = _through_wfdb(path)
    else:
        digital = _format_16(path, header)
    sums = digital.sum(axis=1, dtype=np.int64).tolist()
    for number, (signal, total) in enumerate(zip(header.signals, sums, strict=True)):
        if signal.checksum is not None and (signal.checksum - total) % 65536:
            raise Rejected(RejectReason.CHECKSUM_MISMATCH, f"signal {number}")
    return digital


def _format_16(path: Path, header: Header) -> NDArray[np.int16]:
    """(signals, T) of one file of 16-bit samples, of all signals in turn."""
    signal, size = header.signals[0], header.samples * len(header.signals)
    file = path.parent / signal.file
    held = max(0, file.stat().st_size - signal.offset) // 2
    if held != size:
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"{held // len(header.signals)} samples")
    return np.fromfile(file, "<i2", size, offset=signal.offset).reshape(header.samples, len(header.signals)).T


def _check_signal_file(folder: Path, name: str, largest_mb: float) -> None:
    """Refuse a name in a header that is no file beside it, without touching what it names elsewhere."""
    if name in (".", "..") or "/" in name or "\\" in name or "\0" in name or leaves_folder(folder / name, folder):
        raise Rejected(RejectReason.OUTSIDE_FOLDER, "the header names a signal file elsewhere")
    if len(name.encode()) > 255 or not (folder / name).is_file():
        raise Rejected(RejectReason.MISSING_SIGNAL_FILE)
    size = (folder / name).stat().st_size
    if size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{size / 2**20:.0f} MB of signals")


def _without_baseline(digital: NDArray[np.int16], baseline: int) -> NDArray[np.int16]:
    """(T,) counts whose zero is zero volts."""
    if baseline == 0:
        return digital
    if abs(baseline) <= LARGEST_BASELINE:
        counts = digital.astype(np.int32) - baseline
        if max(counts.max(), -counts.min()) <= np.iinfo(np.int16).max:
            return counts.astype(np.int16)
    raise Rejected(RejectReason.BAD_CALIBRATION, "baseline outside the range of the counts")


def _through_wfdb(path: Path) -> NDArray[np.int16]:
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


def _float(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _fold(text: str | None) -> int | None:
    number = _float(text)
    return int(number) if number is not None and 1 <= number <= 1000 else None


def _time(text: str | None, form: str) -> datetime | None:
    try:
        return datetime.strptime(text or "", form)
    except ValueError:
        return None
