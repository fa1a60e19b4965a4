"""ECGFounder's preprocessing by SciPy alone, as fractions and not as sections, one lead at a time."""

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import butter, filtfilt, iirnotch, medfilt

from ecg_pipeline_tests.conformance.reference.write import Files

HZ = 500


def write_ecgfounder_preproc(files: Files, leads: int, samples: int, rng: np.random.Generator) -> None:
    """The kind ecgfounder_preproc: a record of `samples` with mains hum and wander, a short one, two other rates."""
    raw, short = _record(leads, samples, HZ, rng), _record(2, 777, HZ, rng)
    filtered = _filtered(raw)
    tensors = {
        "raw": raw,
        "filtered": filtered,
        "filtered_zscored": _zscored(filtered),
        "raw_zscored": _zscored(raw),
        "filtered_from_float32": _filtered(raw.astype(np.float32).astype(float)),
        "short_raw": short,
        "short_filtered": _filtered(short),
    }
    for hz in (250, 400):
        x = _record(2, 10 * hz, hz, rng)
        grid, wanted = np.linspace(0, 10, 10 * hz), np.linspace(0, 10, 10 * HZ)
        tensors |= {f"r{hz}_in": x, f"r{hz}_out": np.stack([np.interp(wanted, grid, lead) for lead in x])}
    labels = (rng.random((90, 3)) < 0.3).astype(float)
    scores = np.round(0.3 * labels + rng.random(labels.shape), 2) / 2
    judged = {"auroc": [_auroc(labels[:, column], scores[:, column]) for column in range(3)]}
    precisions = [_average_precision(labels[:, column], scores[:, column]) for column in range(3)]
    tensors |= {"gt": labels, "prob": scores}
    files.write(
        "ecgfounder_preproc",
        {
            "mimic_lead_indices_12": [0, 1, 2, 3, 5, 4, *range(6, 12)],
            "mimic_lead_indices_1": [0],
            "balanced_accuracy_grid": judged,
            "youden": judged | {"auprc": precisions},
        },
        {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in tensors.items()},
    )


def _record(leads: int, samples: int, hz: int, rng: np.random.Generator) -> NDArray:
    time = np.arange(samples) / hz
    beats = np.exp(-(((time % 0.8) - 0.3) ** 2) / 0.0005)
    hum, wander = 0.1 * np.sin(2 * np.pi * 50 * time + 0.4), 0.4 * np.sin(2 * np.pi * 0.2 * time)
    return rng.normal(0, 1, (leads, 1)) * beats + hum + wander + rng.normal(0, 0.02, (leads, samples)) + 0.3


def _filtered(x: NDArray) -> NDArray:
    rows = []
    for lead in x:
        lead = filtfilt(*iirnotch(50, 30, fs=HZ), lead)
        lead = filtfilt(*butter(4, [0.67, 40], "bandpass", fs=HZ), lead)
        rows.append(lead - medfilt(lead, 201))
    return np.stack(rows)


def _zscored(x: NDArray) -> NDArray:
    mean = sum(x.flat) / x.size
    return (x - mean) / (np.sqrt(sum((x.flat - mean) ** 2) / x.size) + 1e-8)


def _auroc(labels: NDArray, scores: NDArray) -> float:
    wins = scores[labels == 1][:, None] - scores[labels == 0]
    return float(((wins > 0) + (wins == 0) / 2).mean())


def _average_precision(labels: NDArray, scores: NDArray) -> float:
    points = [(0.0, 0.0)]
    for threshold in sorted(set(scores), reverse=True):
        called = labels[scores >= threshold]
        points.append((float(called.sum() / labels.sum()), float(called.mean())))
    return sum((b[0] - a[0]) * b[1] for a, b in pairwise(points))
