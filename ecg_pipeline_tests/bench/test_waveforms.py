"""Both sides of the comparisons of waveforms give the same numbers."""

import numpy as np
import pytest

from ecg_pipeline.bench import waveforms
from ecg_pipeline.signals.windows import cut_site


@pytest.fixture(scope="module")
def counts():
    return waveforms._counts(40)


@pytest.mark.parametrize("place", range(len(waveforms.VIEWS)))
def test_views_are_what_one_would_compute_of_one_recording(place, counts, tmp_path):
    _, recipe, view = waveforms.VIEWS[place]
    cut = cut_site(waveforms.write_store(tmp_path / "store", counts), recipe, tmp_path / "out")
    files = waveforms.write_recordings(tmp_path / "files", counts)
    expected = np.concatenate([view(waveforms.load(file)) for file in files])
    # The fraction of an 8th-order filter is noisy where our sections are not.
    assert np.allclose(cut.read(0), expected, rtol=0, atol=2e-5)


def test_batches_are_of_the_same_segments(counts, tmp_path):
    cut = cut_site(waveforms.write_store(tmp_path / "store", counts), waveforms.SEGMENTS, tmp_path / "out")
    files = waveforms.write_segments(tmp_path / "files", cut)
    ours = [arrays["windows"] for arrays, _ in waveforms.batches_of(cut).epoch(0, batch=waveforms.BATCH, seed=0)]
    theirs = list(waveforms.mat_batches(files, seed=0))
    assert [batch.shape for batch in ours] == [batch.shape for batch in theirs] == [(32, 12, 2500)] * 2
    stored = {segment.tobytes() for segment in cut.read(0)}
    assert all(segment.tobytes() in stored for batch in (*ours, *theirs) for segment in batch)
    assert len({segment.tobytes() for batch in ours for segment in batch}) == 64
