"""A row that measures memory measures its own work, whatever the process has done before."""

import os

import numpy as np

from ecg_pipeline.bench.alone import run_in_new_process
from ecg_pipeline.bench.scale import measure_pipeline

FEW, BALLAST_MB = 40, 1000


def test_each_measurement_has_a_process_of_its_own():
    pids = {os.getpid(), run_in_new_process(os.getpid), run_in_new_process(os.getpid)}
    assert len(pids) == 3


def test_the_pipelines_memory_is_not_moved_by_what_is_held_before():
    measure = measure_pipeline.__wrapped__
    before = measure(FEW)
    ballast = np.ones(BALLAST_MB * 1_000_000, np.uint8)
    after = measure(FEW)
    assert before.peak_mb > 100
    assert before.seconds > 0
    assert after.peak_mb - before.peak_mb < BALLAST_MB / 2
    assert ballast.all()
