"""Pretraining that is killed again and again ends with the files of an undisturbed run."""

import random
import signal
import time
from dataclasses import replace
from pathlib import Path

import torch

from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.training import loop
from ecg_pipeline_tests.models.examples import Example, example_of, of_pretrained_families
from ecg_pipeline_tests.quick_processes import quick_processes

KILLS, EPOCHS, SEED = 5, 12, 0


def pretrained(example: Example, out: Path, **options):
    row = replace(example.row, pretraining=replace(example.row.pretraining, epochs=EPOCHS))
    return replace(example, row=row).pretrained(out, **options)


def pretrain_in_process(name: str, folder: Path, out: Path, first, done, is_doomed: bool) -> None:
    """Pretrain, saving after every step. first, done: shared numbers, after how many examples it began and is.

    is_doomed: it waits before its end for the kill.
    """
    torch.set_num_threads(1)
    loop.SAVE_SECONDS = 0.0

    def progress(examples: int, total: int) -> None:
        first.value = first.value or examples
        done.value = examples
        if is_doomed and examples == total:
            signal.pause()

    pretrained(example_of(name, folder), out, progress=progress)


@of_pretrained_families
def test_five_kills_at_random_moments_leave_the_files_of_an_undisturbed_run(example, tmp_path):
    processes = quick_processes()
    total = EPOCHS * example.batches.steps(example.row.pretraining.batch) * example.row.pretraining.batch
    chance = random.Random(SEED)
    moments = sorted(chance.uniform(0, total) for _ in range(KILLS))
    kills = []

    def start(is_doomed: bool):
        # Without locks, which a killed process would keep.
        first, done = (processes.Value("q", 0, lock=False) for _ in range(2))
        arguments = (example.row.recipe.family, example.folder, tmp_path / "cut", first, done, is_doomed)
        process = processes.Process(target=pretrain_in_process, args=arguments)
        process.start()
        return process, first, done

    for moment in moments:
        process, first, done = start(is_doomed=True)
        while process.is_alive() and done.value < moment:
            time.sleep(0.0005)
        time.sleep(chance.uniform(0, 0.01))  # any place in a step
        process.kill()
        process.join()
        kills.append((first.value, done.value))
        said = f"seed {SEED}: killed at {kills} of {total} examples (first and last that were seen)"
        assert process.exitcode == -signal.SIGKILL, said
    process, first, _ = start(is_doomed=False)
    process.join()
    assert process.exitcode == 0, said
    assert first.value > example.row.pretraining.batch, f"{said}; the last run began anew"
    pretrained(example, tmp_path / "whole")
    assert folder_digests(tmp_path / "cut") == folder_digests(tmp_path / "whole"), said
