"""Twenty kills at random moments leave no trace in what the stages of the pipeline write."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.storage.files import folder_digests

PIPELINE = """
import sys
from pathlib import Path
import numpy as np
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.signals.filters import FilterRecipe, clean, filter_site
from ecg_pipeline.signals.quality import measure
from ecg_pipeline.signals.windows import WindowRecipe, cut_site, cut_windows

exports, out = map(Path, sys.argv[1:])
drop = DropFolder("site", exports, "muse_xml", mrn_system="test")
flat = np.zeros((1, 8, 2500), np.float32)
window = WindowRecipe(sampling_hz=100, seconds=5.0, standardise="lead")
# All is loaded before the clock starts.
render_many(clean(flat, FilterRecipe()), SheetRecipe()), measure(flat, 500), cut_windows(flat, 500, window)
print("ready", flush=True)
recipe = IngestRecipe(files_per_shard=16)
store = ingest_site(drop, list_files(drop), recipe=recipe, key=fixed_key("test"), out=out / "store")
filtered = filter_site(store, FilterRecipe(), out / "filtered")
render_site(filtered, SheetRecipe(), out / "sheets")
cut_site(store, window, out / "windows")
"""
KILLS = 20


@pytest.mark.slow
def test_twenty_kills_leave_the_bits_of_an_undisturbed_run(tmp_path):
    exports = write_exports(tmp_path / "exports", 640)

    def start(out):
        command = [sys.executable, "-c", PIPELINE, str(exports), str(tmp_path / out)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        assert process.stdout.readline() == b"ready\n"
        return process

    process = start("whole")
    began_s = time.monotonic()
    assert process.wait() == 0
    whole_s = time.monotonic() - began_s
    moments, states = random.Random(0), set()
    for _ in range(KILLS):
        process = start("cut")
        time.sleep(moments.uniform(0, whole_s / 5))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        states.add(frozenset(folder_digests(tmp_path / "cut")))
    assert start("cut").wait() == 0
    assert len(states) > KILLS / 4, "most of the kills came when nothing was being written"
    assert folder_digests(tmp_path / "cut") == folder_digests(tmp_path / "whole")
