"""Samples of a file as counts: those that are counts with another zero, and those that are no counts."""

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ingest.checks import INVALID_SAMPLE
from ecg_pipeline.ingest.rejects import Rejected, RejectReason

MAX_BASELINE = 65_536
MAX_COUNT = 32_767


def without_baseline(digital: NDArray[np.int16], baseline: int) -> NDArray[np.int16]:
    """(T,) counts whose zero is zero volts; invalid samples stay as they are.

    baseline: the count that stands for zero volts.
    """
    if baseline == 0:
        return digital
    if abs(baseline) <= MAX_BASELINE:
        is_valid = digital != INVALID_SAMPLE
        counts = np.where(is_valid, digital.astype(np.int32) - baseline, 0)
        if np.abs(counts).max(initial=0) <= MAX_COUNT:
            return np.where(is_valid, counts, INVALID_SAMPLE).astype(np.int16)
    raise Rejected(RejectReason.BAD_CALIBRATION, "baseline outside the range of the counts")


def whole_baseline(offset: float, scale: float) -> int:
    """The count that stands for zero volts, if a sample is `offset + scale * count`. Rejected unless it is whole."""
    baseline = -offset / scale if scale else np.inf
    if not abs(baseline) <= MAX_BASELINE or abs(baseline - round(baseline)) > 1e-6:
        raise Rejected(RejectReason.BAD_CALIBRATION, "an offset that is no number of counts")
    return round(baseline)


def rounded_to_counts(x_mv: NDArray, step_uv: float) -> tuple[NDArray[np.int16], tuple[float, ...]]:
    """Samples that a file holds as numbers of another kind, as counts (L, T) and the microvolts per count of each lead.

    x_mv: (L, T) millivolts. step_uv: microvolts per count of a lead whose samples it can hold; in a lead that exceeds
    32,767 steps the largest sample is count 32,767. The error is at most half of a lead's scale. Samples that are not
    finite become `INVALID_SAMPLE`.
    """
    # Damaged files have samples that raise warnings here, and are found to be invalid below.
    with np.errstate(all="ignore"):
        x_uv = x_mv.astype(np.float64) * 1000
    is_valid = np.isfinite(x_uv)
    peaks_uv = np.abs(np.where(is_valid, x_uv, 0)).max(axis=1, initial=0)
    scales = np.maximum(step_uv, peaks_uv / MAX_COUNT)
    counts = np.rint(np.where(is_valid, x_uv, 0) / scales[:, None])
    return np.where(is_valid, counts, INVALID_SAMPLE).astype(np.int16), tuple(scales.tolist())
