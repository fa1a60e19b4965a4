"""The bootstrap against a loop over scikit-learn, the image distance against SciPy's."""

import time
import tracemalloc

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_pipeline.bench.alone import run_in_new_process
from ecg_pipeline.bench.compare import Row, compare, within
from ecg_pipeline.images.distance import pairwise
from ecg_pipeline.images.natural import natural_images
from ecg_pipeline.metrics.bootstrap import intervals

TEST_ECGS = 128_687
"""Of the paper's largest test set (Table 1, low ejection fraction)."""

DRAWS = 500
MEMORY_MB = 500


def bootstrap() -> list[Row]:
    """AUROC and average precision of the paper's largest test set in each of its 500 draws; and the memory it takes."""
    rng = np.random.default_rng(0)
    labels, scores, patients = scored_ecgs(rng, TEST_ECGS)
    distinct, places = np.unique(patients, return_inverse=True)
    draws_of_theirs = 10

    def ours() -> object:
        return intervals(labels, scores, patients, draws=DRAWS, seed=0)

    def theirs() -> None:
        for _ in range(draws_of_theirs):
            times = np.bincount(rng.integers(0, len(distinct), len(distinct)), minlength=len(distinct))
            rows = np.repeat(np.arange(TEST_ECGS), times[places])
            roc_auc_score(labels[rows], scores[rows])
            average_precision_score(labels[rows], scores[rows])

    speed = compare(
        "bootstrap",
        against=f"a loop over scikit-learn's two scores ({draws_of_theirs} draws, extrapolated to {DRAWS})",
        ours=ours,
        theirs=theirs,
        target=40,
        unit=f"times as fast, {DRAWS} draws of {TEST_ECGS} ECGs, processor time",
        work=DRAWS / draws_of_theirs,
        clock=time.process_time,
    )
    used_mb = run_in_new_process(intervals_mb, TEST_ECGS)
    memory = within(
        "bootstrap", against="a limit for its arrays", measured=[used_mb], limit=MEMORY_MB, unit="MB at most"
    )
    return [speed, memory]


def scored_ecgs(
    rng: np.random.Generator, ecgs: int
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.object_]]:
    """Labels, scores and patients (N,) of a test set, one in ten positive, about two ECGs a patient."""
    patients = np.array([f"{number:032x}" for number in rng.integers(0, ecgs // 2, ecgs)], object)
    labels = (rng.random(ecgs) < 0.1).astype(np.int8)
    return labels, 1 / (1 + np.exp(2 - rng.normal(size=ecgs) - labels)), patients


def intervals_mb(ecgs: int) -> float:
    """The most megabytes of arrays that a bootstrap over a test set holds at once, without those of the test set."""
    labels, scores, patients = scored_ecgs(np.random.default_rng(0), ecgs)
    intervals(labels, scores, patients, draws=2, seed=0)  # so that what it loads and compiles is not counted
    tracemalloc.start()
    intervals(labels, scores, patients, draws=DRAWS, seed=0)
    used_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    return used_mb


def image_distance() -> list[Row]:
    """A million pairs, each of an ECG sheet (white with one pixel in twelve inked) and a natural image."""
    rng = np.random.default_rng(0)
    shape = (1000, 224, 224)
    ink = rng.integers(0, 255, shape, np.uint8)
    sheets = np.where(rng.integers(0, 12, shape, np.uint8), np.uint8(255), ink)
    natural = np.resize(natural_images(None, limit=1000, seed=0).tiles, shape)
    pairs_of_theirs = 5

    def theirs() -> None:
        for one, other in zip(sheets[:pairs_of_theirs], natural, strict=False):
            wasserstein_distance(one.reshape(-1), other.reshape(-1))

    return [
        compare(
            "image-distance",
            against=f"scipy.stats.wasserstein_distance ({pairs_of_theirs} pairs, extrapolated to a million)",
            ours=lambda: pairwise(sheets, natural),
            theirs=theirs,
            target=10_000,
            unit="times as fast, a million pairs of 224x224 images, processor time",
            work=len(sheets) * len(natural) / pairs_of_theirs,
            clock=time.process_time,
        )
    ]
