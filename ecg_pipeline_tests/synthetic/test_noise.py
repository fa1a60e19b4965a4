import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.synthetic.noise import LEADS_OF_ELECTRODES, simulate_noise


def test_a_potential_that_all_electrodes_share_is_not_seen() -> None:
    np.testing.assert_allclose(LEADS_OF_ELECTRODES.sum(axis=1), 0, atol=1e-12)


@given(st.integers(0, 10_000), st.sampled_from([5, 10]), st.sampled_from([250, 500]))
@settings(max_examples=40, deadline=None)
def test_noise_is_small_and_never_nothing(seed: int, seconds: int, sampling_hz: int) -> None:
    noise_mv = simulate_noise(seconds=seconds, sampling_hz=sampling_hz, mains_hz=60, rng=np.random.default_rng(seed))
    assert noise_mv.shape == (8, seconds * sampling_hz)
    assert np.isfinite(noise_mv).all()
    level_mv = noise_mv.std(axis=1)
    assert (level_mv > 0.001).all()
    assert np.median(level_mv) < 0.3


def test_noise_of_a_quiet_recording_is_below_the_qrs() -> None:
    levels_mv = [
        np.median(simulate_noise(seconds=10, sampling_hz=500, mains_hz=60, rng=np.random.default_rng(seed)).std(axis=1))
        for seed in range(30)
    ]
    assert 0.01 < np.median(levels_mv) < 0.08
