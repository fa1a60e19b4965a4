"""Work over shards: every item once, and the first error comes out before the others are begun."""

import os
import time
from multiprocessing import get_context

import psutil
import pytest

from ecg_pipeline.storage.parallel import run_parallel


def mark(item):
    folder, number = item
    if number == 7:
        raise ValueError(f"shard {number} is broken")
    (folder / str(number)).touch(exist_ok=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_item_is_done_once_and_reported(workers, tmp_path):
    reported = []
    items = [(tmp_path, number) for number in range(100, 130)]
    run_parallel(mark, items, workers=workers, progress=lambda *step: reported.append(step))
    assert reported == [(done, 30) for done in range(1, 31)]
    assert len(list(tmp_path.iterdir())) == 30


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_it(workers, tmp_path):
    with pytest.raises(ValueError, match="shard 7 is broken"):
        run_parallel(mark, [(tmp_path, number) for number in range(1000)], workers=workers)
    assert len(list(tmp_path.iterdir())) < 20


def sleep_after_telling(folder):
    (folder / str(os.getpid())).touch()
    time.sleep(600)


def work_for_ever(folder):
    run_parallel(sleep_after_telling, [folder] * 2, workers=2)


def test_workers_end_with_the_process_that_they_work_for(tmp_path):
    parent = get_context("spawn").Process(target=work_for_ever, args=(tmp_path,))
    parent.start()
    deadline = time.monotonic() + 120
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [psutil.Process(int(path.name)) for path in tmp_path.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.join()
    _, living = psutil.wait_procs(workers, timeout=60)
    assert not living
