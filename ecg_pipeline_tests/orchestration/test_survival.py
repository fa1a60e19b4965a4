"""A killed or failing run loses nothing that had a record, and the same command goes on."""

import os
import resource
import signal
import subprocess
import sys
import time

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import read_record
from ecg_pipeline.storage.files import folder_digests

COMMAND = [sys.executable, "-m", "ecg_pipeline.cli", "materialize", "+image_shards", "--study"]


def digests(archive):
    """Files and data version of everything that has a record; each file as its record says."""
    found = {}
    for path in sorted(archive.root.rglob("record.json")):
        record = read_record(path)
        assert folder_digests(archive.folder(record)) == record.files
        found[record.asset, record.partition] = record.files
    return found


def test_killed_at_any_moment_the_line_ends_with_the_same_bits(small_study, tmp_path):
    def environment(home):
        return {**os.environ, "ECG_HOME": str(tmp_path / home)}

    subprocess.run([*COMMAND, str(small_study)], env=environment("whole"), check=True, capture_output=True)
    whole = digests(Archive(tmp_path / "whole" / "small"))
    assert len(whole) == 13
    archive = Archive(tmp_path / "cut" / "small")
    kept = {}
    for wanted in (1, 6):
        process = subprocess.Popen(
            [*COMMAND, str(small_study)],
            env=environment("cut"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 180
        while len(list(archive.root.glob("*/*/record.json"))) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before, kept = kept, digests(archive)
        assert len(kept) >= wanted
        assert before.items() <= kept.items()
    subprocess.run([*COMMAND, str(small_study)], env=environment("cut"), check=True, capture_output=True)
    assert digests(archive) == whole


def test_a_full_disk_loses_nothing_that_had_a_record(small_study, tmp_path):
    environment = {**os.environ, "ECG_HOME": str(tmp_path)}
    up_to = [*COMMAND[:4], "+waveform_store", "--study", str(small_study)]
    subprocess.run(up_to, env=environment, check=True, capture_output=True)
    archive = Archive(tmp_path / "small")
    before = digests(archive)
    assert len(before) == 5

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    command = [*COMMAND, str(small_study)]
    full = subprocess.run(command, env=environment, check=False, capture_output=True, preexec_fn=no_room)
    assert full.returncode != 0
    assert before.items() <= digests(archive).items()
    assert len(digests(archive)) < 13
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert len(digests(archive)) == 13
    assert before.items() <= digests(archive).items()
