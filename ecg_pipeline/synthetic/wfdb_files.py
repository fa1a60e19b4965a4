"""Writes WFDB records as PTB-XL stores them: twelve leads, format 16, 1,000 counts a millivolt, with checksums."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.leads import derive

STORED_LEADS = ("I", "II", "III", "AVR", "AVL", "AVF", "V1", "V2", "V3", "V4", "V5", "V6")
"""Lead names as PTB-XL's headers spell them."""

COUNTS_PER_MV = 1000


def twelve_leads(independent_mv: NDArray[np.float64]) -> NDArray[np.int16]:
    """(12, T) counts of the twelve leads from the (8, T) mV of the independent leads."""
    return np.rint(derive(independent_mv) * COUNTS_PER_MV).clip(-32767, 32767).astype(np.int16)


def write_wfdb(header: Path, counts: NDArray[np.int16], sampling_hz: int) -> None:
    """Write `header` (.hea) and, beside it, the signal file (.dat) that it names. counts: (12, T)."""
    header.parent.mkdir(parents=True, exist_ok=True)
    signal = header.with_suffix(".dat")
    signal.write_bytes(counts.T.astype("<i2").tobytes())
    lines = [f"{header.stem} {len(counts)} {sampling_hz} {counts.shape[1]}"]
    for lead, samples in zip(STORED_LEADS, counts, strict=True):
        # A WFDB checksum is the sum of all samples as a signed 16-bit number.
        checksum = (int(samples.astype(np.int64).sum()) + 2**15) % 2**16 - 2**15
        lines.append(f"{signal.name} 16 {COUNTS_PER_MV:.1f}(0)/mV 16 0 {samples[0]} {checksum} 0 {lead}")
    header.write_text("\n".join(lines) + "\n", encoding="ascii")
