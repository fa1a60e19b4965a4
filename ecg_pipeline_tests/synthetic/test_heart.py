from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.synthetic.heart import (
    DOWER,
    MEDIAN_R_SECONDS,
    Heart,
    at_rate,
    measure,
    median_beat,
    sample_heart,
    sample_person,
    simulate,
    simulate_rhythm,
)
from ecg_pipeline.synthetic.waves import DISEASES, NORMAL, QRS, VARIANTS, VECTOR, Disease, T

INVERSE_DOWER = np.array(
    [
        [0.156, -0.010, -0.172, -0.074, 0.122, 0.231, 0.239, 0.194],
        [-0.227, 0.887, 0.057, -0.019, -0.106, -0.022, 0.041, 0.048],
        [0.022, 0.102, -0.229, -0.310, -0.246, -0.063, 0.055, 0.108],
    ]
)
"""Frank's x, y, z from the independent leads (Edenbrandt and Pahlm 1988)."""

seeds = st.integers(0, 10_000)
PEOPLE = range(40)


def heart_of(disease: Disease, severity: float, seed: int) -> Heart:
    rng = np.random.default_rng(seed)
    return sample_heart(sample_person(rng), disease=disease, severity=severity, rng=rng)


def beat(disease: Disease, severity: float, seed: int) -> dict[str, NDArray]:
    """(1.2 s) mV of the median beat at 500 Hz, by lead, the derived ones too."""
    leads = dict(zip(INDEPENDENT_LEADS, median_beat(heart_of(disease, severity, seed), 500), strict=True))
    one, two = leads["I"], leads["II"]
    return {**leads, "III": two - one, "aVL": one - two / 2, "aVF": two - one / 2}


def at_ms(x_mv: NDArray, after_r_ms: float) -> float:
    return float(x_mv[round((MEDIAN_R_SECONDS + after_r_ms / 1000) * 500)])


def t_mv(x_mv: NDArray) -> float:
    """The T wave's largest excursion."""
    wave = x_mv[round((MEDIAN_R_SECONDS + 0.2) * 500) : round((MEDIAN_R_SECONDS + 0.42) * 500)]
    return float(wave[np.abs(wave).argmax()])


def seen_qrs_ms(disease: Disease, severity: float, seed: int) -> float:
    """From the waveform: how long any lead is steeper than 10 microvolts in 2 ms.

    Only the QRS waves are drawn: the take-off of an ST segment is as steep, and would be counted with them.
    """
    heart = heart_of(disease, severity, seed)
    waves = heart.waves.copy()
    waves[[place for place in range(len(waves)) if place not in range(QRS.start, QRS.stop)], VECTOR] = 0
    x_mv = median_beat(replace(heart, waves=waves), 500)
    steep = np.flatnonzero(np.any(np.abs(np.diff(x_mv, axis=1)) > 0.01, axis=0))
    return 2.0 * float(steep[-1] - steep[0])


def median_over_people(measured: Callable[[int], float]) -> float:
    return float(np.median([measured(seed) for seed in PEOPLE]))


def test_dower_matrix_is_undone_by_the_inverse_dower_matrix() -> None:
    np.testing.assert_allclose(INVERSE_DOWER @ DOWER, np.eye(3), atol=0.05)


@given(seeds, st.sampled_from(sorted(DISEASES)), st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_every_heart_gives_a_plausible_ecg(seed: int, disease: Disease, severity: float) -> None:
    heart = heart_of(disease, severity, seed)
    x_mv, times, premature = simulate(heart, seconds=10, sampling_hz=500, rng=np.random.default_rng(seed))
    assert x_mv.shape == (8, 5000)
    assert np.isfinite(x_mv).all()
    assert 0.3 < np.ptp(x_mv, axis=1).max() < 12
    assert np.abs(np.median(x_mv, axis=1)).max() < 0.6
    assert len(times) == len(premature)
    assert 10 * heart.rate_bpm / 60 - 3 <= len(times) <= 10 * heart.rate_bpm / 60 + 3


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_half_the_rate_is_every_second_sample(seed: int) -> None:
    heart = heart_of("low_ef", 0.5, seed)
    fast, _, _ = simulate(heart, seconds=10, sampling_hz=500, rng=np.random.default_rng(seed))
    slow, _, _ = simulate(heart, seconds=10, sampling_hz=250, rng=np.random.default_rng(seed))
    np.testing.assert_allclose(slow, fast[:, ::2], atol=0.02)


@given(seeds)
@settings(max_examples=20, deadline=None)
@example(1172)
def test_beats_follow_each_other_and_premature_ones_come_early(seed: int) -> None:
    heart = heart_of("none", 0, seed)
    times, premature = simulate_rhythm(heart, 10, np.random.default_rng(seed))
    intervals = np.diff(times)
    assert (intervals > 0.3 * heart.rr_seconds).all()
    assert times[0] < 0.5 * heart.rr_seconds, "the strip begins with a pause"
    assert times[-1] > 10
    assert (intervals[premature[1:]] < 0.8 * heart.rr_seconds).all()
    assert not (premature[1:] & premature[:-1]).any()


def test_tables_agree_in_shape_and_have_positive_widths() -> None:
    for table in (*DISEASES.values(), *VARIANTS.values()):
        assert table.shape == NORMAL.shape
        assert (table[:, 1:3] > 0).all()


def test_qt_follows_the_root_of_rr() -> None:
    assert at_rate(NORMAL, 0.64)[T, 0] == pytest.approx(0.8 * NORMAL[T, 0])


def test_qrs_is_narrow_in_health_and_wide_in_low_ef() -> None:
    assert 70 <= median_over_people(lambda seed: seen_qrs_ms("none", 0, seed)) <= 110
    assert 130 <= median_over_people(lambda seed: seen_qrs_ms("low_ef", 0.9, seed)) <= 170
    assert 130 <= median_over_people(lambda seed: measure(heart_of("low_ef", 0.9, seed)).qrs_ms) <= 170
    assert 75 <= median_over_people(lambda seed: measure(heart_of("none", 0, seed)).qrs_ms) <= 110


def test_low_ef_has_discordant_t_poor_r_progression_and_a_faster_rate() -> None:
    assert median_over_people(lambda seed: t_mv(beat("low_ef", 0.9, seed)["V6"])) < -0.2
    assert median_over_people(lambda seed: t_mv(beat("low_ef", 0.9, seed)["V1"])) > 0.2
    assert median_over_people(lambda seed: beat("low_ef", 0.9, seed)["V2"].min()) < -0.8
    healthy = median_over_people(lambda seed: beat("none", 0, seed)["V3"].max())
    assert median_over_people(lambda seed: beat("low_ef", 0.9, seed)["V3"].max()) < 0.8 * healthy
    faster = [heart_of("low_ef", 0.9, seed).rate_bpm - heart_of("none", 0, seed).rate_bpm for seed in PEOPLE]
    assert np.median(faster) > 8


def test_hcm_has_voltage_septal_q_and_deep_t_inversion() -> None:
    for lead in ("I", "V3", "V4", "V5", "V6"):
        assert median_over_people(lambda seed, lead=lead: t_mv(beat("hcm", 0.9, seed)[lead])) < -0.15
    assert median_over_people(lambda seed: t_mv(beat("hcm", 0.9, seed)["V4"])) < -0.5
    assert median_over_people(lambda seed: at_ms(beat("hcm", 0.9, seed)["V6"], -25)) < -0.1
    healthy = median_over_people(lambda seed: beat("none", 0, seed)["V5"].max())
    assert median_over_people(lambda seed: beat("hcm", 0.9, seed)["V5"].max()) > 1.3 * healthy
    assert median_over_people(lambda seed: seen_qrs_ms("hcm", 0.9, seed)) < 120


def test_injury_raises_its_own_leads_and_lowers_the_opposite_ones() -> None:
    def st_mv(disease: Disease, lead: str) -> float:
        return median_over_people(lambda seed: at_ms(beat(disease, 0.9, seed)[lead], 95))

    for lead in ("V2", "V3", "V4"):
        assert st_mv("anterior_stemi", lead) > 0.2
    for lead in ("III", "aVF"):
        assert st_mv("anterior_stemi", lead) < -0.05
    for lead in ("II", "III", "aVF"):
        assert st_mv("inferior_stemi", lead) > 0.2
    for lead in ("I", "aVL"):
        assert st_mv("inferior_stemi", lead) < -0.05
    assert abs(st_mv("none", "V2")) < 0.15


@given(seeds)
@settings(max_examples=20, deadline=None)
def test_st_elevation_grows_with_severity(seed: int) -> None:
    levels = [at_ms(beat("anterior_stemi", severity, seed)["V3"], 95) for severity in (0.0, 0.5, 1.0)]
    assert levels == sorted(levels)
