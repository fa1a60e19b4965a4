"""A toy heart: a moving dipole seen by the eight independent leads (Dower et al. 1980), with a variable rhythm.

Models: waves as bells in time (McSharry et al. 2003; Sameni et al. 2007), respiratory and slow variability of the heart
rate, QT that follows the square root of the RR interval (Bazett), respiration that tilts the heart, premature beats.
Every person has axes, voltages, intervals and electrode places of their own.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.synthetic.waves import (
    CENTRE,
    FALL,
    NORMAL,
    PREMATURE,
    QRS,
    RISE,
    ST,
    VARIANTS,
    VECTOR,
    Disease,
    T,
    Variant,
    blend,
    with_disease,
)

DOWER = np.array(
    [
        [0.632, -0.235, 0.059],
        [0.235, 1.066, -0.132],
        [-0.515, 0.157, -0.917],
        [0.044, 0.164, -1.387],
        [0.882, 0.098, -1.277],
        [1.213, 0.127, -0.601],
        [1.125, 0.127, -0.086],
        [0.831, 0.076, 0.230],
    ]
)
"""(8, 3) mV in the independent leads for a dipole of 1 mV along Frank's x, y, z (Dower, Machado and Osborne 1980)."""

MEDIAN_BEAT_SECONDS = 1.2
MEDIAN_R_SECONDS = 0.48
"""Length of a cart's median beat, and where in it the R wave is."""

_WINDOW_SECONDS = (0.4, 0.8)
"""Time before and after an R wave in which its beat is simulated."""

_VARIANT_SHARES: dict[Variant, float] = {
    "usual": 0.50,
    "high_voltage": 0.16,
    "early_repolarisation": 0.12,
    "right_bundle_delay": 0.10,
    "flat_t": 0.12,
}


@dataclass(frozen=True, eq=False)
class Heart:
    """One person's heart on one day.

    waves: (8, 6) table as in `waves.WAVES`. leads: (8, 3) what each independent lead sees of the dipole.
    """

    waves: NDArray[np.float64]
    premature: NDArray[np.float64]
    leads: NDArray[np.float64]
    rate_bpm: float
    respiratory_variability: float
    premature_share: float

    @property
    def rr_seconds(self) -> float:
        """Mean time from one R wave to the next."""
        return 60 / self.rate_bpm


@dataclass(frozen=True, eq=False)
class Person:
    """What stays the same from visit to visit: the healthy table of waves, the body, the rate at rest."""

    variant: Variant
    waves: NDArray[np.float64]
    premature: NDArray[np.float64]
    leads: NDArray[np.float64]
    rate_bpm: float
    respiratory_variability: float
    has_premature_beats: bool


def sample_person(rng: np.random.Generator) -> Person:
    """Sample the body and the healthy heart of a person."""
    variant = list(_VARIANT_SHARES)[rng.choice(len(_VARIANT_SHARES), p=list(_VARIANT_SHARES.values()))]
    waves = blend(NORMAL, VARIANTS[variant], rng.uniform(0.2, 0.9)).copy()
    waves[:, CENTRE] *= np.exp(rng.normal(0, 0.06))
    waves[:2, CENTRE] += rng.normal(0, 10)
    waves[QRS, CENTRE : FALL + 1] *= np.exp(rng.normal(0, 0.09))
    waves[T, RISE : FALL + 1] *= np.exp(rng.normal(0, 0.10))
    waves[:, VECTOR] *= np.exp(rng.normal(0, 0.16, (len(waves), 1)))
    waves[QRS, VECTOR] *= np.exp(rng.normal(0, 0.16))
    waves[ST:, VECTOR] *= np.exp(rng.normal(0, 0.15))
    tilt = _rotation(*rng.normal((0, 0, 0), (0.12, 0.20, 0.30)))
    waves[:, VECTOR] = waves[:, VECTOR] @ tilt.T
    waves[T, VECTOR] = _rotation(*rng.normal(0, 0.15, 3)) @ waves[T, VECTOR]
    premature = PREMATURE.copy()
    premature[:, VECTOR] = premature[:, VECTOR] @ _rotation(*rng.normal(0, 0.8, 3)).T
    return Person(
        variant=variant,
        waves=waves,
        premature=premature,
        # Six per cent of what a dipole at the heart's centre does not explain differs from lead to lead.
        leads=DOWER * np.exp(rng.normal(0, 0.08, (8, 1))) + rng.normal(0, 0.06, (8, 3)),
        rate_bpm=float(np.clip(rng.normal(71, 11), 46, 108)),
        respiratory_variability=float(rng.uniform(0.005, 0.055)),
        has_premature_beats=bool(rng.random() < 0.08),
    )


def sample_heart(person: Person, *, disease: Disease, severity: float, rng: np.random.Generator) -> Heart:
    """The person's heart at one visit, with `severity` (0 to 1) of the changes that the disease makes."""
    waves = with_disease(person.waves, disease, severity)
    waves[:, VECTOR] *= np.exp(rng.normal(0, 0.05, (len(waves), 1)))
    faster = {"low_ef": 14.0, "anterior_stemi": 10.0}.get(disease, 0.0) * severity
    steadier = 1 - 0.7 * severity * (disease != "none")
    return Heart(
        waves=waves,
        premature=person.premature,
        leads=person.leads + rng.normal(0, 0.02, (8, 3)),
        rate_bpm=float(np.clip(person.rate_bpm + faster + rng.normal(0, 4), 42, 135)),
        respiratory_variability=person.respiratory_variability * steadier,
        premature_share=0.12 if person.has_premature_beats else 0.004,
    )


def simulate_rhythm(heart: Heart, seconds: float, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Times of the R waves (s), and which of the beats are premature. The first and last may lie outside."""
    count = int((seconds + 2) / heart.rr_seconds) + 4
    breaths = np.arange(count) * heart.rr_seconds * rng.uniform(0.18, 0.32) + rng.random()
    slow = np.arange(count) * heart.rr_seconds * 0.1 + rng.random()
    swing = heart.respiratory_variability * (np.sin(2 * np.pi * breaths) + 0.5 * np.sin(2 * np.pi * slow))
    intervals = heart.rr_seconds * (1 + swing + rng.normal(0, 0.006, count))
    premature = rng.random(count) < heart.premature_share
    premature[1:] &= ~premature[:-1]
    # A premature beat comes early and leaves the beat after it in step: the pause compensates.
    early = premature * rng.uniform(0.3, 0.42, count) * intervals
    return np.cumsum(intervals) - early - rng.uniform(1, 2) * heart.rr_seconds, premature


def simulate(
    heart: Heart, *, seconds: float, sampling_hz: int, rng: np.random.Generator
) -> tuple[NDArray, NDArray, NDArray]:
    """One noiseless recording: (8, T) mV in the independent leads; R times (s) within it; which are premature."""
    times, premature = simulate_rhythm(heart, seconds, rng)
    samples = round(seconds * sampling_hz)
    dipole_mv = np.zeros((samples, 3))
    before, after = (round(reach * sampling_hz) for reach in _WINDOW_SECONDS)
    breath_hz, phase = rng.uniform(0.18, 0.32), rng.uniform(0, 2 * np.pi)
    rr_seconds = np.diff(times, prepend=times[0] - heart.rr_seconds)
    for time, rr, odd in zip(times, rr_seconds, premature, strict=True):
        middle = round(time * sampling_hz)
        start, stop = max(middle - before, 0), min(middle + after, samples)
        if start >= stop:
            continue
        offsets_ms = (np.arange(start, stop) / sampling_hz - time) * 1000
        tilt = 0.06 * np.sin(2 * np.pi * breath_hz * time + phase)
        # The recovery follows the rate of the last beats, not of one interval.
        waves = heart.premature if odd else at_rate(heart.waves, 0.8 * heart.rr_seconds + 0.2 * rr)
        dipole_mv[start:stop] += (1 + tilt) * beat_mv(waves, offsets_ms) @ _rotation(0, 0, tilt).T
    inside = (times >= 0) & (times < seconds)
    return heart.leads @ dipole_mv.T, times[inside], premature[inside]


def median_beat(heart: Heart, sampling_hz: int) -> NDArray[np.float64]:
    """(8, 1.2 s) mV: the beat without noise, as the cart's median beat comes close to."""
    offsets_ms = (np.arange(round(MEDIAN_BEAT_SECONDS * sampling_hz)) / sampling_hz - MEDIAN_R_SECONDS) * 1000
    return heart.leads @ beat_mv(at_rate(heart.waves, heart.rr_seconds), offsets_ms).T


def beat_mv(waves: NDArray[np.float64], offsets_ms: NDArray) -> NDArray[np.float64]:
    """(T, 3) mV: the dipole of one beat, `offsets_ms` (T,) after its R wave."""
    distance = offsets_ms[:, None] - waves[:, CENTRE]
    width = np.where(distance < 0, waves[:, RISE], waves[:, FALL])
    return np.exp(-0.5 * (distance / width) ** 2) @ waves[:, VECTOR]


def at_rate(waves: NDArray[np.float64], rr_seconds: float) -> NDArray[np.float64]:
    """The table at a heart rate: the T wave, and the fall of the ST segment into it, follow the root of RR."""
    stretch = np.sqrt(rr_seconds)
    scaled = waves.copy()
    scaled[T, CENTRE : FALL + 1] *= stretch
    scaled[ST, FALL] *= stretch
    scaled[:2, CENTRE] *= 0.7 + 0.3 * stretch
    return scaled


@dataclass(frozen=True)
class Measurements:
    """What the cart prints above an ECG: intervals (ms), axes (degrees in the frontal plane, 0 left, 90 down)."""

    rate_bpm: int
    pr_ms: int
    qrs_ms: int
    qt_ms: int
    p_axis: int
    r_axis: int
    t_axis: int
    p_onset_ms: float
    q_onset_ms: float
    q_offset_ms: float
    t_offset_ms: float


def measure(heart: Heart) -> Measurements:
    """Intervals and axes of a heart from its table of waves; the onsets are counted from the R wave."""
    waves = at_rate(heart.waves, heart.rr_seconds)
    # A wave begins where it exceeds 30 microvolts, the level at which carts see a QRS complex begin or end.
    height = np.linalg.norm(waves[:, VECTOR], axis=1)
    reach = np.sqrt(2 * np.log(np.maximum(height / 0.03, 1)))
    onset = waves[:, CENTRE] - reach * waves[:, RISE]
    offset = waves[:, CENTRE] + reach * waves[:, FALL]
    p_onset, q_onset, q_offset = onset[:2].min(), onset[QRS].min(), offset[QRS].max()
    axes = [np.degrees(np.arctan2(y, x)) for x, y in (waves[rows, 3:5].sum(axis=0) for rows in (slice(0, 2), QRS, [T]))]
    return Measurements(
        rate_bpm=round(heart.rate_bpm),
        pr_ms=round(q_onset - p_onset),
        qrs_ms=round(q_offset - q_onset),
        qt_ms=round(offset[T] - q_onset),
        p_axis=round(axes[0]),
        r_axis=round(axes[1]),
        t_axis=round(axes[2]),
        p_onset_ms=float(p_onset),
        q_onset_ms=float(q_onset),
        q_offset_ms=float(q_offset),
        t_offset_ms=float(offset[T]),
    )


def _rotation(about_x: float, about_y: float, about_z: float) -> NDArray[np.float64]:
    """(3, 3) rotation by radians: about z turns the frontal axis, about y the transition of the chest leads."""
    (cx, cy, cz), (sx, sy, sz) = np.cos([about_x, about_y, about_z]), np.sin([about_x, about_y, about_z])
    return (
        np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        @ np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    )
