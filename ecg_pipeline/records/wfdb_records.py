"""WFDB records: PTB-XL, MIMIC-IV-ECG, and the `.hea` + `.mat` files of the PhysioNet/CinC challenges.

These data sets store format 16, which is read here: headers of the challenges hold first lines that the wfdb package
refuses, and a header may name a signal file outside its folder, which must not be opened. Any other signal format
goes through wfdb.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS, Ecg
from ecg_pipeline.files import sha256_file
from ecg_pipeline.records.drop_folder import leaves_folder
from ecg_pipeline.records.pseudonyms import identified
from ecg_pipeline.records.rejects import Rejected, RejectReason

CANONICAL = {lead.upper(): lead for lead in LEADS}
INVALID_SAMPLE = -32768
MICROVOLTS = {"mv": 1000.0, "uv": 1.0, "v": 1e6}

_FORMAT = re.compile(r"^(?P<code>\d+)(?:x\d+)?(?::\d+)?(?:\+(?P<offset>\d+))?$")
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
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        raise Rejected(RejectReason.UNREADABLE, "header cannot be opened") from None
    content = [line for line in lines if line and not line.startswith("#")]
    if not content:
        raise Rejected(RejectReason.EMPTY_FILE, "header without lines")
    fields = content[0].split()
    try:
        count, rate, samples = int(fields[1]), float(re.split(r"[/(]", fields[2])[0]), int(fields[3])
        signals = tuple(_signal(line) for line in content[1 : count + 1])
    except (IndexError, ValueError):
        raise Rejected(RejectReason.UNREADABLE, "not a WFDB header") from None
    if len(signals) != count or not 0 < samples <= 10_000_000:
        raise Rejected(RejectReason.UNREADABLE, "header and its signal lines disagree")
    comments = (line.lstrip("# ").partition(":") for line in lines if line.startswith("#"))
    return Header(rate, samples, signals, {key.strip().lower(): value.strip() for key, _, value in comments})


def read_wfdb(path: Path) -> Ecg:
    """Read the record of one header; see `records.reader.Reader`. No demographics: each data set keeps its own."""
    header = read_header(path)
    by_lead = {CANONICAL.get((signal.lead or "").upper()): number for number, signal in enumerate(header.signals)}
    missing = [lead for lead in INDEPENDENT_LEADS if lead not in by_lead]
    if missing:
        raise Rejected(RejectReason.MISSING_LEADS, ", ".join(missing))
    leads = tuple(lead for lead in LEADS if lead in by_lead)
    rows = [by_lead[lead] for lead in leads]
    if header.sampling_hz != round(header.sampling_hz) or not 50 <= header.sampling_hz <= 20_000:
        raise Rejected(RejectReason.BAD_CALIBRATION, "sampling rate")
    signals = [header.signals[row] for row in rows]
    scales = tuple(_microvolts_per_count(signal) for signal in signals)
    digital = _digital(path, header)[rows]
    if (digital == INVALID_SAMPLE).any():
        raise Rejected(RejectReason.NOT_FINITE)
    counts = digital.astype(np.int32) - np.array([[signal.baseline] for signal in signals], np.int32)
    if np.abs(counts).max(initial=0) > np.iinfo(np.int16).max:
        raise Rejected(RejectReason.BAD_CALIBRATION, "baseline outside the range of the counts")
    return Ecg(counts.astype(np.int16), leads, scales, int(header.sampling_hz), sha256_file(path))


def read_ptb_xl(path: Path, folder: Path) -> Ecg:
    """Read a PTB-XL record with its row of `ptbxl_database.csv`."""
    row = ptb_xl_rows(folder).get(path.relative_to(folder).with_suffix("").as_posix(), {})
    age = _float(row.get("age"))
    return replace(
        read_wfdb(path),
        patient_id=identified(row.get("patient_id", "").removesuffix(".0")),
        acquired_at=_time(row.get("recording_date"), "%Y-%m-%d %H:%M:%S"),
        age_years=90.0 if age == 300 else age,
        sex={"0": "M", "1": "F"}.get(row.get("sex", "")),
        device=(row.get("device") or "").strip() or None,
        fold=int(row["strat_fold"]) if row.get("strat_fold") else None,
    )


def read_mimic_iv_ecg(path: Path) -> Ecg:
    """Read a MIMIC-IV-ECG record. Its folder is named after the subject; its lead order is its header's."""
    subject = re.search(r"/p(\d{6,9})/s\d+/", path.as_posix())
    fields = path.read_text(encoding="utf-8", errors="replace").splitlines()[:1]
    stamp = " ".join(fields[0].split()[4:6]) if fields else ""
    return replace(
        read_wfdb(path),
        patient_id=identified(subject.group(1)) if subject else None,
        acquired_at=_time(stamp, "%H:%M:%S %d/%m/%Y"),
    )


def read_cinc(path: Path) -> Ecg:
    """Read a challenge record. There are no patient identifiers in these sets: each record is a patient of its own."""
    comments = read_header(path).comments
    return replace(
        read_wfdb(path),
        patient_id=path.stem,
        age_years=_float(comments.get("age")),
        sex={"m": "M", "f": "F"}.get(comments.get("sex", "").lower()[:1]),
    )


@lru_cache(maxsize=4)
def ptb_xl_rows(folder: Path) -> Mapping[str, Mapping[str, str]]:
    """Rows of `ptbxl_database.csv` by `filename_hr`."""
    path = folder / "ptbxl_database.csv"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: a folder in PTB-XL's layout needs this table")
    with path.open(newline="", encoding="utf-8") as file:
        return {row["filename_hr"]: row for row in csv.DictReader(file)}


def _signal(line: str) -> Signal:
    fields = line.split(maxsplit=8)
    form, gain = _FORMAT.match(fields[1]), _GAIN.match(fields[2])
    if form is None or gain is None:
        raise ValueError(line)
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


def _digital(path: Path, header: Header) -> NDArray[np.int16]:
    """(signals, T) as stored."""
    names = {signal.file for signal in header.signals}
    file = path.parent / header.signals[0].file
    if leaves_folder(file, path.parent) or any("/" in name or "\\" in name for name in names):
        raise Rejected(RejectReason.OUTSIDE_FOLDER, "the header names a signal file elsewhere")
    if not file.is_file():
        raise Rejected(RejectReason.MISSING_SIGNAL_FILE)
    if len(names) > 1 or {signal.format for signal in header.signals} != {"16"}:
        return _through_wfdb(path)
    content = np.fromfile(file, "<i2", offset=header.signals[0].offset)
    if content.size != header.samples * len(header.signals):
        raise Rejected(RejectReason.WRONG_SAMPLE_COUNT, f"{content.size // len(header.signals)} samples")
    digital = content.reshape(header.samples, len(header.signals)).T
    sums = digital.astype(np.int64).sum(axis=1)
    for signal, total in zip(header.signals, sums, strict=True):
        if signal.checksum is not None and (signal.checksum - total) % 65536:
            raise Rejected(RejectReason.CHECKSUM_MISMATCH, f"lead {signal.lead}")
    return digital


def _through_wfdb(path: Path) -> NDArray[np.int16]:
    import wfdb

    try:
        record = wfdb.rdrecord(str(path.with_suffix("")), physical=False)
    except (ValueError, OSError, IndexError, KeyError, TypeError):
        raise Rejected(RejectReason.UNREADABLE, "wfdb cannot read it") from None
    if not isinstance(record, wfdb.Record) or record.d_signal is None:
        raise Rejected(RejectReason.UNREADABLE, "not one segment of samples")
    return np.ascontiguousarray(record.d_signal.T).clip(INVALID_SAMPLE, 32767).astype(np.int16)


def _float(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if np.isfinite(number) else None


def _time(text: str | None, form: str) -> datetime | None:
    try:
        return datetime.strptime(text or "", form)
    except ValueError:
        return None
