"""What ECG-FM is trained on and by, sample by sample and draw by draw."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

ORDER = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")


def resample(x: NDArray, hz: int, wanted_hz: int = 500) -> NDArray:
    """(L, T) -> (L, int(T wanted / hz)), on a straight line between two samples."""
    length, samples = int(x.shape[1] * wanted_hz / hz), x.shape[1]
    out = np.empty((len(x), length))
    for place in range(length):
        at = place * (samples - 1) / (length - 1)
        before = min(int(at), samples - 2)
        out[:, place] = x[:, before] + (at - before) * (x[:, before + 1] - x[:, before])
    return out


def standardise(x: NDArray) -> NDArray:
    """Each lead over its whole recording; a constant one becomes 0."""
    out = np.zeros_like(x)
    for number, lead in enumerate(x):
        spread = np.sqrt(((lead - lead.mean()) ** 2).mean())
        if lead.min() != lead.max():
            out[number] = (lead - lead.mean()) / spread
    return out


def segments(x: NDArray, length: int) -> list[NDArray]:
    return [x[:, first : first + length] for first in range(0, x.shape[1] - length + 1, length)]


def reorder(x: NDArray, names: Sequence[str]) -> NDArray:
    """The twelve leads in order, NaN where one is missing."""
    missing = np.full(x.shape[1], np.nan)
    return np.stack([x[names.index(lead)] if lead in names else missing for lead in ORDER])


def pairs(recordings: dict[str, list[int]]) -> list[tuple[str, int, int]]:
    """Segments two by two, an odd last one dropped."""
    found = []
    for name, numbers in recordings.items():
        ordered = sorted(numbers)
        found += [(name, a, b) for place, (a, b) in enumerate(pairwise(ordered)) if place % 2 == 0]
    return found


def lead_mask(random: np.random.RandomState, probability: float, share: float) -> NDArray[np.bool_]:
    """(12,) bool, True where the lead is zeroed."""
    if not probability >= random.uniform(0, 1):
        return np.zeros(12, bool)
    return random.uniform(size=12) < share


def span_mask(
    random: np.random.RandomState,
    batch: int,
    frames: int,
    share: float,
    length: int,
    padded_from: Sequence[int | None] | None = None,
) -> NDArray[np.bool_]:
    """(batch, frames) bool, with the generator's calls in the order of the released code."""
    common = max(2, int(share * frames / length + random.rand()))  # not used where rows are padded
    rows = []
    for row in range(batch):
        recorded = frames if padded_from is None else padded_from[row] or frames
        spans = common if padded_from is None else max(2, int(share * recorded / length + random.rand()))
        starts = random.choice(recorded - length, spans, replace=False)
        rows.append(sorted({int(start) + offset for start in starts for offset in range(length)}))
    least, mask = min(map(len, rows)), np.zeros((batch, frames), bool)
    for number, row in enumerate(rows):
        chosen = random.choice(row, least, replace=False) if len(row) > least else row
        mask[number, np.asarray(chosen)] = True
    return mask


def span_statistics(random: np.random.RandomState, case: dict, draws: int) -> dict:
    """Of so many masks: how many frames are masked, and how often each."""
    masks = [span_mask(random, case["batch"], case["T"], case["mask_prob"], case["mask_length"]) for _ in range(draws)]
    numbers = np.array([int(mask[0].sum()) for mask in masks])
    return case | {
        "draws": draws,
        "mean_fraction": float(numbers.mean() / case["T"]),
        "std_fraction": float(numbers.std() / case["T"]),
        "min_count": int(numbers.min()),
        "max_count": int(numbers.max()),
        "count_quantiles": {str(q): float(np.quantile(numbers, q)) for q in (0.05, 0.25, 0.5, 0.75, 0.95)},
        "per_position_rate": np.mean([mask.mean(0) for mask in masks], axis=0).round(4).tolist(),
    }


def curve(attention: NDArray, samples: int) -> tuple[NDArray, NDArray]:
    """Largest weight of each query (B, T), and its spline from 0 to 1 (B, samples - 1)."""
    sharpest = np.array([[max(query) for query in example] for example in attention.tolist()])
    last = sharpest.shape[1] - 1
    places, curves = np.linspace(0, last, samples - 1), []
    for frames in sharpest:
        # A curve that is mirrored at both ends goes round.
        round_trip = np.concatenate([frames, frames[-2::-1]])
        curve = CubicSpline(np.arange(2 * last + 1), round_trip, bc_type="periodic")(places)
        curves.append((curve - curve.min()) / (curve.max() - curve.min()))
    return sharpest, np.array(curves)


def areas(labels: NDArray, scores: NDArray) -> tuple[float, float, float]:
    """AUROC, area under straight lines between precision and recall, average precision of one label."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    won = [(p > q) + (p == q) / 2 for p in positive for q in negative]
    recall, precision = [0.0], [1.0]
    for threshold in sorted(set(scores.tolist()), reverse=True):
        called = scores >= threshold
        recall.append(labels[called].sum() / labels.sum())
        precision.append(labels[called].mean())
    steps = list(zip(pairwise(recall), pairwise(precision), strict=True))
    trapezoid = sum((r1 - r0) * (p0 + p1) / 2 for (r0, r1), (p0, p1) in steps)
    average = sum((r1 - r0) * p1 for (r0, r1), (_, p1) in steps)
    return float(np.mean(won)), float(trapezoid), float(average)
