"""Noise of an ECG: drift, muscle, mains, moving electrodes. Simulated at the electrodes, so that leads share it."""

import numpy as np
from numpy.typing import NDArray

LEADS_OF_ELECTRODES = np.array(
    [[-1, 1, 0] + [0] * 6, [-1, 0, 1] + [0] * 6, *np.hstack([np.full((6, 3), -1 / 3), np.eye(6)])]
)
"""(8, 9): the independent leads as differences of the electrodes RA, LA, LL, V1 to V6; the chest leads against Wilson's
central terminal."""


def simulate_noise(*, seconds: float, sampling_hz: int, mains_hz: float, rng: np.random.Generator) -> NDArray:
    """(8, T) mV of noise in the independent leads, from a quiet patient to a restless one."""
    samples = round(seconds * sampling_hz)
    time = np.arange(samples) / sampling_hz
    restless = rng.lognormal(0, 0.5)
    noise_mv = _shaped(samples, sampling_hz, 0.012 * restless, 0.05, 0.45, rng)
    noise_mv += rng.normal(0, 0.02, (9, 1)) * np.sin(2 * np.pi * (rng.uniform(0.18, 0.32) * time + rng.random()))
    noise_mv += _shaped(samples, sampling_hz, 0.004 * restless, 15, 120, rng) * _bursts(time, rng)
    noise_mv += rng.lognormal(-6.4, 0.7, (9, 1)) * np.sin(2 * np.pi * (mains_hz * time + rng.random()))
    if rng.random() < 0.05:
        moved, at = rng.integers(9), rng.uniform(0, seconds)
        decay = np.exp(-(time - at).clip(0) / rng.uniform(0.2, 0.8))
        noise_mv[moved] += rng.normal(0, 0.5) * (time >= at) * decay
    return LEADS_OF_ELECTRODES @ noise_mv


def _shaped(
    samples: int, sampling_hz: int, level_mv: float, low_hz: float, high_hz: float, rng: np.random.Generator
) -> NDArray:
    """(9, T) Gaussian noise of root mean square `level_mv` between two frequencies, for each electrode its own."""
    frequency = np.fft.rfftfreq(samples, 1 / sampling_hz)
    band = (frequency >= min(low_hz, frequency[1])) & (frequency <= high_hz)
    spectrum = np.zeros((9, len(frequency)), complex)
    spectrum[:, band] = rng.normal(size=(9, band.sum(), 2)) @ (1, 1j)
    noise = np.fft.irfft(spectrum, samples)
    return level_mv * noise / noise.std(axis=1, keepdims=True) * np.exp(rng.normal(0, 0.3, (9, 1)))


def _bursts(time: NDArray, rng: np.random.Generator) -> NDArray:
    """(9, T): how tense the muscles under each electrode are, 1 at rest."""
    tense = rng.uniform(0, 5) * (rng.random((9, 1)) < 0.1)
    centre, width = rng.uniform(0, time[-1], (9, 1)), rng.uniform(0.3, 2.0, (9, 1))
    return 1 + tense * np.exp(-0.5 * ((time - centre) / width) ** 2)
