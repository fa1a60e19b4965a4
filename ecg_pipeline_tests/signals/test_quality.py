import numpy as np
import pytest

from ecg_pipeline.signals.quality import measure

HZ = 500
TIME = np.arange(5 * HZ) / HZ


@pytest.fixture
def beats():
    """One record (1, 8, 2500) of eight alike leads: narrow complexes of 1 mV, 75 a minute, nothing else."""
    return np.tile(np.exp(-0.5 * ((TIME % 0.8 - 0.4) / 0.01) ** 2), (1, 8, 1))


def test_a_clean_recording_has_neither_noise_nor_wander(beats):
    row = measure(beats, HZ).row(0, named=True)
    assert row["flat_leads"] == 0
    assert row["peak_to_peak_mv"] == pytest.approx(1, abs=0.01)
    assert row["noise_mv"] < 0.002
    assert row["wander_mv"] < 0.002


def test_flat_leads_are_counted_whatever_their_level(beats):
    beats[0, 2:5] = 3.0
    assert measure(beats, HZ)["flat_leads"].to_list() == [3]


def test_one_noisy_lead_shows_in_the_noise(beats):
    beats[0, 4] += 0.1 * np.sqrt(2) * np.sin(2 * np.pi * 100 * TIME)
    assert measure(beats, HZ)["noise_mv"][0] == pytest.approx(0.1, rel=0.1)


def test_a_drifting_lead_shows_in_the_wander_alone(beats):
    beats[0, 0] += 0.25 * TIME
    row = measure(beats, HZ).row(0, named=True)
    assert row["wander_mv"] == pytest.approx(1.0, rel=0.05)
    assert row["noise_mv"] < 0.002


def test_each_record_is_measured_by_itself(beats):
    both = measure(np.concatenate([beats, np.zeros_like(beats)]), HZ)
    assert both["flat_leads"].to_list() == [0, 8]
    assert both[0].equals(measure(beats, HZ))


def test_a_short_signal_is_measured_too():
    assert len(measure(np.zeros((2, 8, 30)), HZ)) == 2


def test_real_recordings_lie_where_recordings_lie(ptb_xl):
    measures = measure(ptb_xl[..., :2500], HZ)
    assert measures["flat_leads"].sum() == 0
    assert measures["peak_to_peak_mv"].is_between(0.5, 8).all()
    assert measures["noise_mv"].is_between(0.0001, 0.1).all()
